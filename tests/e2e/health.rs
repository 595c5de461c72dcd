//! `pregon health`: what a process says of itself, to whom, and with which status.

use std::path::Path;

use crate::harness::planes::{Plan, Planes};
use crate::harness::process::Process;
use crate::harness::tls::Authority;
use crate::harness::{Standalone, eventually};
use crate::strangers::{Token, write_tokens};

/// Runs the command: its status and what it printed.
async fn ask(args: &[&str]) -> (Option<i32>, String) {
    let (status, said) = Process::run(&[&["health"], args].concat(), &[]).await;
    (status.code(), said)
}

fn token_file(dir: &Path, token: &Token) -> String {
    let file = dir.join("token");
    std::fs::write(&file, format!("{}\n", token.token)).unwrap();
    file.display().to_string()
}

#[tokio::test]
async fn who_serves_says_so_without_a_token_and_over_tls() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let tokens = write_tokens(dir.path(), &[&Token::of("viewer").await]).display().to_string();
    let [cert, key] = authority.write_pair(dir.path(), "server");
    let mut args = vec!["standalone", "--in-memory", "--listen", "127.0.0.1:0"];
    args.extend(["--tls-cert-file", &cert, "--tls-key-file", &key, "--tokens-file", &tokens]);
    let pregon = Standalone::exactly(&args, None).await;
    let (url, ca) = (format!("https://{}", pregon.addr()), authority.file());
    let tls = [url.as_str(), "--ca-file", &ca, "--server-name", "localhost"];
    let (status, said) = ask(&tls).await;
    assert_eq!((status, said.as_str()), (Some(0), "liveness   SERVING\nreadiness  SERVING"));
    let (status, said) = ask(&[&tls[..], &["--only", "liveness"]].concat()).await;
    assert_eq!((status, said.as_str()), (Some(0), "liveness   SERVING"));

    // Nobody who can be believed, and nobody at all.
    let other = Authority::new().file();
    let (status, said) = ask(&[&url, "--ca-file", &other, "--server-name", "localhost"]).await;
    assert_eq!(status, Some(2), "{said}");
    let (status, said) = ask(&["127.0.0.1:1"]).await;
    assert_eq!(status, Some(2));
    assert!(said.contains("127.0.0.1:1 does not answer"), "{said}");
}

#[tokio::test]
async fn who_is_not_ready_says_why_to_those_who_may_know() {
    let dir = tempfile::tempdir().unwrap();
    let viewer = Token::of("viewer").await;
    let tokens = write_tokens(dir.path(), &[&viewer]).display().to_string();
    let all = ["--tokens-file", tokens.as_str()];
    let mut planes = Planes::start(Plan { nodes: 1, all: &all, ..Plan::default() }).await;
    let addrs = [planes.control.addr(), planes.nodes[0].addr()].map(|addr| addr.to_string());
    for addr in &addrs {
        eventually(&format!("{addr} is ready"), || async {
            let (status, said) = ask(&[addr]).await;
            if status == Some(0) { Ok(()) } else { Err(said) }
        })
        .await;
    }
    planes.redis.kill().await;
    let token = token_file(dir.path(), &viewer);
    for addr in &addrs {
        eventually(&format!("{addr} is not ready"), || async {
            let (status, said) = ask(&[addr]).await;
            let bare = said == "liveness   SERVING\nreadiness  NOT_SERVING";
            if status == Some(1) && bare { Ok(()) } else { Err(said) }
        })
        .await;
        let (status, said) = ask(&[addr, "--token-file", &token]).await;
        assert_eq!(status, Some(1));
        assert!(said.contains("\n  store: the store does not answer: "), "{said}");
    }
}
