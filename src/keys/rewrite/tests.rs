use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pregon_core::seal::KeyRing;

use super::super::kms::testing::{Server, engine, error};
use super::*;

const CLEAR: [&str; 2] = [
    "1111111111111111111111111111111111111111111111111111111111111111",
    "2222222222222222222222222222222222222222222222222222222222222222",
];

/// The keys of a file, opened.
async fn ring(path: &Path, kms: &Transit) -> KeyRing {
    let given = read(path).unwrap();
    let mut opened = Vec::new();
    for (_, wrapped) in given.wrapped() {
        opened.push(kms.open(wrapped).await.unwrap());
    }
    given.ring(&opened).unwrap()
}

#[tokio::test]
async fn a_file_is_wrapped_as_a_whole_and_keeps_its_keys_mode_and_links() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("v1.key"), dir.path().join("master.key"));
    std::fs::write(&file, CLEAR.join("\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("v1.key", &link).unwrap();
    // One that a crash has left.
    std::fs::write(dir.path().join("v1.key.pregon-new"), "half").unwrap();
    let version = Arc::new(AtomicU32::new(1));
    let now = Arc::clone(&version);
    let server = Server::start(move |asked| engine(now.load(Ordering::Relaxed), asked)).await;
    let kms = Transit::new(server.options()).unwrap();
    let before = KeyRing::parse(&CLEAR.join("\n")).unwrap();

    let done = wrap(&link, &kms).await.unwrap();
    assert_eq!(done, Rewritten { changed: 2, keys: 2 });
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.lines().count() == 2 && text.lines().all(|it| it.starts_with("vault:v1:")));
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(!dir.path().join("v1.key.pregon-new").exists());
    assert_eq!(ring(&file, &kms).await.ids(), before.ids());
    assert_eq!(wrap(&link, &kms).await.unwrap().changed, 0);

    // Under the same version nothing is to be done.
    assert_eq!(rewrap(&file, &kms).await.unwrap().changed, 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    version.store(2, Ordering::Relaxed);
    assert_eq!(rewrap(&file, &kms).await.unwrap(), Rewritten { changed: 2, keys: 2 });
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.lines().all(|line| line.starts_with("vault:v2:")), "{text}");
    assert_eq!(ring(&file, &kms).await.ids(), before.ids());
    // Of a KMS that knows an older version only, such as one restored from a backup, it takes nothing.
    version.store(1, Ordering::Relaxed);
    let refused = rewrap(&file, &kms).await.unwrap_err();
    assert!(refused.to_string().contains("version 1"), "{refused}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[tokio::test]
async fn a_file_stays_as_it_is_where_its_keys_would_not_open_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("master.key");
    std::fs::write(&file, CLEAR.join("\n")).unwrap();
    let deny = Server::start(|asked| match asked.line.contains("/decrypt/") {
        true => (403, error("permission denied")),
        false => engine(1, asked),
    });
    let other = Server::start(|asked| match asked.line.contains("/decrypt/") {
        true => (200, format!("{{\"data\":{{\"plaintext\":\"{}=\"}}}}", "A".repeat(43))),
        false => engine(1, asked),
    });
    for (server, why) in [(deny.await, "not opened again"), (other.await, "something else")] {
        let kms = Transit::new(server.options()).unwrap();
        let refused = wrap(&file, &kms).await.unwrap_err();
        assert!(format!("{refused:#}").contains(why), "{refused:#}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), CLEAR.join("\n"));
    }
    // Keys in clear are not rewrapped, and not copied.
    let server = Server::start(|asked| engine(1, asked)).await;
    let refused = rewrap(&file, &Transit::new(server.options()).unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("pregon keys wrap"), "{refused}");
    assert!(server.asked().is_empty());
}
