//! A tenant whose receivers have names that no name server answers for.
//!
//! The name server is on port 53 and has to stand in `/etc/resolv.conf`, so this needs namespaces of
//! its own: `scripts/test.sh` makes them and runs it.

use tokio::net::UdpSocket;

use super::*;
use crate::harness::{Planes, Standalone};

const SERVER: &str = "127.0.0.153";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a name server on port 53: scripts/test.sh runs it"]
async fn silent_names_cost_their_own_tenant_only_standalone() {
    Box::pin(silent_names_cost_their_own_tenant_only::<Standalone>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a name server on port 53: scripts/test.sh runs it"]
async fn silent_names_cost_their_own_tenant_only_planes() {
    Box::pin(silent_names_cost_their_own_tenant_only::<Planes>()).await;
}

async fn silent_names_cost_their_own_tenant_only<W: World>() {
    let conf = std::fs::read_to_string("/etc/resolv.conf").unwrap();
    assert!(conf.contains(SERVER), "/etc/resolv.conf does not name {SERVER}: {conf}");
    let socket = UdpSocket::bind((SERVER, 53)).await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let server = tokio::spawn(serve(socket, Arc::clone(&asked)));

    let mut town = Town::<W>::at("modest.test").await;
    let port = town.receiver.url("").rsplit(':').next().unwrap().to_owned();
    for n in 0..SUBSCRIPTIONS {
        town.subscribe(n, json!({"url": format!("http://s{n}.silent.test:{port}/never")})).await;
    }
    town.shop.served().await;
    town.publish((0..20).map(|n| format!("silent-{n}")), "{}").await;
    eventually("the silent names are looked up", || async {
        let asked = asked.load(Ordering::Relaxed);
        if asked > 0 { Ok(()) } else { Err(asked) }
    })
    .await;
    town.modest("beside", EVENTS).await;
    println!("{} questions were left unanswered", asked.load(Ordering::Relaxed));
    town.check_end(EVENTS).await;
    server.abort();
}

/// Answers for `modest.test`, with an address that is good for a second; counts what else is asked.
async fn serve(socket: UdpSocket, asked: Arc<AtomicUsize>) {
    let mut buffer = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        match answer(&buffer[..length]) {
            Some(answer) => {
                socket.send_to(&answer, from).await.unwrap();
            }
            None => {
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let name = b"\x06modest\x04test\0";
    let question = query.get(12..12 + name.len() + 4)?;
    let (asked, kind) = question.split_at(name.len());
    if !asked.eq_ignore_ascii_case(name) {
        return None;
    }
    let is_address = kind[..2] == [0, 1];
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
    answer.extend(question);
    if is_address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}
