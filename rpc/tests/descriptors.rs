//! A server that runs out of file descriptors serves again when there are some.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::fs::File;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pregon_core::clock::SystemClock;
use pregon_rpc::revision::Revision;
use pregon_rpc::server::{Limits, Listen, Listener, Server};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Runs the test below in a process of its own that may have 64 descriptors.
#[test]
fn the_accept_loop_survives_emfile() {
    let script = "ulimit -n 64 && exec \"$0\" --ignored --exact out_of_descriptors";
    let ran = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "takes all descriptors of its process: run by the test above"]
async fn out_of_descriptors() {
    let listen = Listen::open("127.0.0.1:0".parse().unwrap());
    let listener = Listener::bind(listen, Arc::new(SystemClock)).await.unwrap();
    let addr = listener.local_addr();
    let server = Server::new(&[], &[], Revision::none(), Limits::default()).unwrap();
    let ready = server.on(listener).await.unwrap();
    let served = tokio::spawn(ready.serve(CancellationToken::new()));

    let mut taken: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(!taken.is_empty() && taken.len() < 64);
    taken.pop();
    let mut client = TcpStream::connect(addr).await.unwrap(); // with the one that is left
    let mut spoken = [0; 9];
    // A real wait: the kernel has the connection, the server must fail to accept it.
    let early = timeout(Duration::from_millis(300), client.read_exact(&mut spoken)).await;
    assert!(early.is_err(), "there was no descriptor to serve it with");
    assert!(!served.is_finished());

    drop(taken);
    let settings = timeout(Duration::from_secs(5), client.read_exact(&mut spoken)).await;
    settings.expect("served once there are descriptors").unwrap();
}
