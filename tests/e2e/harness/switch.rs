//! A port of loopback that leads to another one, as a name leads to an address: who connects later
//! may come somewhere else, and connections stand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// It ends with the test.
#[derive(Debug)]
pub struct Switch {
    port: u16,
    to: Arc<AtomicU16>,
}

impl Switch {
    /// One that leads nowhere yet.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let to = Arc::<AtomicU16>::default();
        let target = Arc::clone(&to);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let target = target.load(Ordering::Relaxed);
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { port, to }
    }

    /// From now on who connects comes to this port; the URL of a Redis there.
    pub fn lead_to(&self, port: u16) -> String {
        self.to.store(port, Ordering::Relaxed);
        format!("redis://127.0.0.1:{}/0", self.port)
    }
}
