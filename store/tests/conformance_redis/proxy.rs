//! A connection that breaks at the worst moment: the request went through, its reply does not.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

/// Between clients and a server.
pub struct Proxy {
    directory: TempDir,
    server: Arc<Mutex<PathBuf>>,
    lose: Arc<AtomicBool>,
    swallow: Arc<AtomicBool>,
    last: Arc<Mutex<Vec<u8>>>,
    /// Connections up to this one pass nothing any more, and stay open.
    silent: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    /// In front of the server on this socket.
    pub fn before(server: PathBuf) -> Self {
        let directory = TempDir::new().expect("a directory");
        let listener = UnixListener::bind(directory.path().join("socket")).expect("to bind");
        let lose = Arc::new(AtomicBool::new(false));
        let losing = Arc::clone(&lose);
        let swallow = Arc::<AtomicBool>::default();
        let swallowing = Arc::clone(&swallow);
        let last = Arc::new(Mutex::new(Vec::new()));
        let noting = Arc::clone(&last);
        let (silent, connections) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (silencing, counting) = (Arc::clone(&silent), Arc::clone(&connections));
        let server = Arc::new(Mutex::new(server));
        let present = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = present.lock().expect("where it leads").clone();
                let server = UnixStream::connect(&server).await.expect("the server");
                let losing = (Arc::clone(&losing), Arc::clone(&swallowing));
                let noting = Arc::clone(&noting);
                let number = counting.fetch_add(1, Ordering::SeqCst) + 1;
                let silent = (number, Arc::clone(&silencing));
                tokio::spawn(pass(client, server, losing, noting, silent));
            }
        });
        Self { directory, server, lose, swallow, last, silent, connections }
    }

    pub fn url(&self, database: usize) -> String {
        format!("redis+unix://{}/socket?db={database}", self.directory.path().display())
    }

    /// Who connects from now on comes to another server; connections stand.
    pub fn lead_to(&self, server: PathBuf) {
        *self.server.lock().expect("where it leads") = server;
    }

    /// The reply to the next script that writes does not come: its connection is cut instead.
    pub fn lose_a_reply(&self) {
        self.lose.store(true, Ordering::SeqCst);
    }

    /// The next script that writes goes through, and its connection says nothing any more: as if
    /// Redis hung, and then went on.
    pub fn swallow_a_reply(&self) {
        self.swallow.store(true, Ordering::SeqCst);
    }

    /// All connections that there are fall silent, as behind a firewall that forgot them; new ones
    /// are passed on.
    pub fn fall_silent(&self) {
        self.silent.store(self.connections.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// The last script that was called, as it went over the wire.
    pub fn last_script(&self) -> Vec<u8> {
        self.last.lock().expect("the last script").clone()
    }

    /// Whether that happened.
    pub fn has_lost(&self) -> bool {
        !self.lose.load(Ordering::SeqCst)
    }
}

/// Passes everything on until a reply is to be lost.
async fn pass(
    client: UnixStream,
    server: UnixStream,
    (lose, swallow): (Arc<AtomicBool>, Arc<AtomicBool>),
    last: Arc<Mutex<Vec<u8>>>,
    (number, silent): (usize, Arc<AtomicUsize>),
) {
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let (cut, mute) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    tokio::spawn(replies(from_server, to_client, Arc::clone(&cut), Arc::clone(&mute)));
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read) = from_client.read(&mut buffer).await {
        let request = &buffer[..read];
        if read > 0 && number <= silent.load(Ordering::SeqCst) {
            continue;
        }
        let script = request.windows(7).any(|word| word == b"EVALSHA" || word == b"\r\nEVAL\r");
        if script {
            *last.lock().expect("the last script") = request.to_vec();
        }
        if script && lose.swap(false, Ordering::SeqCst) {
            cut.store(true, Ordering::SeqCst);
        }
        if script && swallow.swap(false, Ordering::SeqCst) {
            mute.store(true, Ordering::SeqCst);
        }
        if read == 0 || to_server.write_all(request).await.is_err() {
            return;
        }
    }
}

async fn replies(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    cut: Arc<AtomicBool>,
    mute: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read) = from.read(&mut buffer).await {
        if read > 0 && mute.load(Ordering::SeqCst) {
            continue;
        }
        if read == 0 || cut.load(Ordering::SeqCst) || to.write_all(&buffer[..read]).await.is_err() {
            return; // both halves go, and with them the connection
        }
    }
}
