use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;

use super::super::kms::trouble::Trouble;
use super::*;

/// Opens `vault:v1:` and the base64 of a byte to a key of that byte, while it is there.
#[derive(Default)]
struct Fake {
    down: Mutex<bool>,
    opened: Mutex<Vec<String>>,
}

impl Fake {
    fn down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }

    /// What it was asked for since it was last asked this.
    fn opened(&self) -> usize {
        std::mem::take(&mut *self.opened.lock().unwrap()).len()
    }
}

#[async_trait]
impl Kms for Fake {
    async fn open(&self, wrapped: &WrappedKey) -> Result<SecretBytes, KmsFault> {
        self.opened.lock().unwrap().push(wrapped.as_str().to_owned());
        if *self.down.lock().unwrap() {
            return Err(KmsFault::At { address: "kms".into(), trouble: Trouble::Sealed });
        }
        let byte = wrapped.as_str().as_bytes()[9];
        Ok(SecretBytes::new(vec![byte; 32]))
    }
}

const A: &str = "vault:v1:AAAA";
const B: &str = "vault:v1:BBBB";

fn write(file: &Path, keys: &[&str]) {
    std::fs::write(file, keys.join("\n")).unwrap();
}

fn ids(bytes: &[u8]) -> Vec<pregon_core::seal::KeyId> {
    let hex = |byte: &u8| format!("{byte:02x}").repeat(32);
    KeyRing::parse(&bytes.iter().map(hex).collect::<Vec<_>>().join(" ")).unwrap().ids()
}

/// Waits until these are the keys.
async fn becomes(ring: &mut watch::Receiver<Arc<KeyRing>>, bytes: &[u8]) {
    let wanted = ids(bytes);
    let changed = ring.wait_for(|ring| ring.ids() == wanted);
    tokio::time::timeout(Duration::from_secs(60), changed).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_process_that_runs_goes_on_without_its_kms_and_takes_what_it_opens_later() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    write(&file, &[A]);
    let kms = Arc::new(Fake::default());
    let open = OpenFile::open(file.clone(), Arc::<Fake>::clone(&kms)).await.unwrap();
    let mut ring = open.current();
    assert_eq!(ring.borrow().ids(), ids(b"A"));
    tokio::spawn(open.follow());
    assert_eq!(kms.opened(), 1);

    // What is open already is not asked for: beside a key in clear it goes on without the KMS.
    kms.down(true);
    write(&file, &[&"11".repeat(32), A]);
    becomes(&mut ring, &[0x11, b'A']).await;
    assert_eq!(kms.opened(), 0);

    // A new one cannot be opened: the old keys stay, and it is asked for until it can.
    write(&file, &[B, A]);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(ring.borrow().ids(), ids(&[0x11, b'A']));
    let tries = kms.opened();
    assert!((5..=12).contains(&tries), "{tries} in a minute");
    kms.down(false);
    becomes(&mut ring, b"BA").await;

    // A file that is changed back while it cannot be opened is taken at once.
    kms.down(true);
    kms.opened();
    write(&file, &["vault:v1:CCCC"]);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(ring.borrow().ids(), ids(b"BA"));
    write(&file, &[A, B]);
    becomes(&mut ring, b"AB").await;
}

#[tokio::test]
async fn what_cannot_be_opened_says_which_key_of_which_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    write(&file, &[&"11".repeat(32), A]);
    let kms = Arc::new(Fake::default());
    kms.down(true);
    let closed = OpenFile::open(file.clone(), kms).await.err().unwrap();
    let said = closed.to_string();
    assert!(said.starts_with("key 2 of ") && said.contains("the KMS at kms is sealed"), "{said}");
    assert!(closed.may_pass());
    let closed = OpenFile::open(file.clone(), Arc::new(super::super::kms::NoKms)).await;
    let closed = closed.err().unwrap();
    assert!(closed.to_string().contains("--kms-address") && !closed.may_pass(), "{closed}");
    // Both open to the same key.
    write(&file, &[A, "vault:v2:AAAA"]);
    let closed = OpenFile::open(file, Arc::new(Fake::default())).await.err().unwrap();
    assert!(closed.to_string().contains("key 2 is given twice") && !closed.may_pass());
}
