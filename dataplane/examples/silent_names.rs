//! What one tenant's silent names cost the others: the time of requests to names that are new each
//! time, alone and beside a tenant whose name server never answers.
//!
//! `cargo run --release -p pregon-dataplane --example silent_names [requests a round] [rounds]`
//!
//! Name server, receivers and both tenants are in this process, on loopback. Rounds alternate, and
//! the medians of their 99th percentiles are compared, since machines are noisy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use pregon_core::clock::SystemClock;
use pregon_core::id::TenantId;
use pregon_core::limits;
use pregon_core::url::{AddressPolicy, EndpointUrl};
use pregon_dataplane::egress::{
    Asks, Egress, EgressLimits, EgressOptions, EgressPolicy, OutboundRequest, Own, Resend,
    SystemResolver, Target,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// Requests of the tenant whose names are answered that are under way at once.
const QUICK: usize = 2;
/// Those of the tenant whose names are not: twice as many as it has places for lookups.
const SILENT: usize = 64;
/// The part of a name that is answered.
const ANSWERED: &[u8] = b"quick";

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let requests: usize = arguments.next().map_or(Ok(2000), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(7), |text| text.parse())?;
    let (server, receiver) = (name_server().await?, receiver().await?);
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    println!("{rounds} rounds of {requests} requests, each to a new name");
    for round in 0..rounds {
        alone.push(measure(server, receiver, requests, (2 * round, false)).await?);
        beside.push(measure(server, receiver, requests, (2 * round + 1, true)).await?);
    }
    let (alone, beside) = (median(alone), median(beside));
    println!("alone                  p50 {:>6} µs   p99 {:>6} µs", alone.0, alone.1);
    println!("beside silent names    p50 {:>6} µs   p99 {:>6} µs", beside.0, beside.1);
    println!("ratio of the p99s      {:.2}", f64::from(beside.1) / f64::from(alone.1));
    Ok(())
}

/// The medians of rounds' 50th and 99th percentiles.
fn median(mut rounds: Vec<(u32, u32)>) -> (u32, u32) {
    let middle = rounds.len() / 2;
    rounds.sort_by_key(|round| round.0);
    let fifty = rounds[middle].0;
    rounds.sort_by_key(|round| round.1);
    (fifty, rounds[middle].1)
}

/// One round: the 50th and 99th percentile of a request's time, in microseconds.
async fn measure(
    server: SocketAddr,
    receiver: SocketAddr,
    requests: usize,
    (round, beside): (usize, bool),
) -> Result<(u32, u32), Failure> {
    let egress = egress(server)?;
    let mut silent = JoinSet::new();
    for worker in 0..if beside { SILENT } else { 0 } {
        let egress = egress.clone();
        silent.spawn(async move {
            for number in 0.. {
                let name = format!("n{worker}-{number}.silent.test");
                let Ok(request) = request("silent", &name, receiver) else { return };
                egress.send(&request, Duration::from_secs(10)).await;
            }
        });
    }
    if beside {
        // The silent tenant's places are taken: from here on it is as bad as it gets.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut quick = JoinSet::new();
    for worker in 0..QUICK {
        let egress = egress.clone();
        quick.spawn(async move {
            let mut times = Vec::with_capacity(requests / QUICK);
            for number in 0..requests / QUICK {
                let name = format!("n{round}-{worker}-{number}.quick.test");
                let request = request("quick", &name, receiver)?;
                let begin = Instant::now();
                let exchange = egress.send(&request, Duration::from_secs(10)).await;
                let took = u32::try_from(begin.elapsed().as_micros())?;
                exchange.result.map_err(|fault| fault.detail.into_owned())?;
                times.push(took);
            }
            Ok::<_, Failure>(times)
        });
    }
    let mut times = Vec::with_capacity(requests);
    while let Some(done) = quick.join_next().await {
        times.extend(done??);
    }
    times.sort_unstable();
    let part = |of: usize| times.get(times.len() * of / 100).copied().ok_or("no request");
    Ok((part(50)?, part(99)?))
}

fn egress(server: SocketAddr) -> Result<Egress, Failure> {
    Ok(Egress::new(EgressOptions {
        policy: EgressPolicy {
            addresses: AddressPolicy::opening(vec!["127.0.0.0/8".parse()?]),
            allow_http: true,
            ..EgressPolicy::default()
        },
        own: Own::default(),
        pools: Vec::new(),
        resolver: Arc::new(SystemResolver::asking(vec![server])),
        extra_roots: None,
        clock: Arc::new(SystemClock),
        limits: EgressLimits::default(),
    })?)
}

fn request(tenant: &str, name: &str, receiver: SocketAddr) -> Result<OutboundRequest, Failure> {
    let tenant = TenantId::parse(tenant).map_err(|wrong| wrong.description)?;
    let url = format!("http://{name}:{}/", receiver.port());
    let url = EndpointUrl::parse_stored(&url).map_err(|wrong| wrong.description)?;
    Ok(OutboundRequest {
        method: Method::POST,
        target: Target::new(tenant, &url),
        uri: None,
        headers: Vec::new(),
        spelled: Vec::new(),
        body: Bytes::from_static(b"{}"),
        keep: limits::RESPONSE_KEPT,
        asks: Asks::Status,
        resend: Resend::IfUnheard,
    })
}

/// Answers for names with [`ANSWERED`] in them: questions of IPv4 with loopback, others with none.
async fn name_server() -> Result<SocketAddr, Failure> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await?;
    let address = socket.local_addr()?;
    tokio::spawn(async move {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question).await {
            let question = &question[..length];
            if question.windows(ANSWERED.len()).any(|it| it == ANSWERED)
                && let Some(answer) = answer(question)
            {
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
    Ok(address)
}

fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let end = 12 + question.get(12..)?.iter().position(|byte| *byte == 0)? + 5;
    let four = question.get(end - 4..end)? == [0, 1, 0, 1];
    let mut answer = question.get(..2)?.to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(four), 0, 0, 0, 0]);
    answer.extend(question.get(12..end)?);
    if four {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(Ipv4Addr::LOCALHOST.octets());
    }
    Some(answer)
}

/// Answers every request with 204.
async fn receiver() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Ok(address)
}

async fn serve(mut stream: TcpStream) {
    let mut request = [0; 4096];
    while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
        if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
            return;
        }
    }
}
