//! What egress costs: requests per second and CPU per request of `Egress::send`, against a bare
//! hyper connection that makes the same POST, over the same loopback sink in the same run.
//!
//! `cargo run --release -p pregon-dataplane --example egress_bench [seconds a round] [rounds]`
//!
//! The sink is a process of its own, so that the CPU counted is the sender's alone. The rounds
//! alternate, and medians are compared, since machines are noisy.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::Full;
use pregon_core::clock::SystemClock;
use pregon_core::id::TenantId;
use pregon_core::limits;
use pregon_core::url::{AddressPolicy, EndpointUrl};
use pregon_dataplane::egress::{
    Asks, BodyRead, Egress, EgressLimits, EgressOptions, EgressPolicy, OutboundRequest, Own,
    Resend, SystemResolver, Target, read_body,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Connections, and requests in flight.
const CONNECTIONS: usize = 64;
/// Bytes of each request's body.
const BODY: usize = 500;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("sink") {
        return sink().await;
    }
    let seconds: u64 = first.map_or(Ok(3), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let round = Duration::from_secs(seconds);

    let mut child =
        Command::new(std::env::current_exe()?).arg("sink").stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or("the sink has no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let address: SocketAddr = line.trim().parse()?;

    let measured = compare(address, round, rounds).await;
    child.kill()?;
    child.wait()?;
    measured
}

async fn compare(address: SocketAddr, round: Duration, rounds: usize) -> Result<(), Failure> {
    let egress = egress()?;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    println!("{CONNECTIONS} connections, {BODY} B bodies, {rounds} rounds of {round:?} each");
    for _ in 0..rounds {
        bare.push(measure(round, |run| bare_sender(address, run)).await?);
        ours.push(measure(round, |run| egress_sender(egress.clone(), address, run)).await?);
    }
    let (bare, ours) = (median(bare), median(ours));
    println!("bare hyper  {:>8.0} requests/s  {:>6.2} µs CPU per request", bare.rate, bare.cpu);
    println!("egress      {:>8.0} requests/s  {:>6.2} µs CPU per request", ours.rate, ours.cpu);
    println!("ratio       {:>8.2}             {:>6.2}", ours.rate / bare.rate, ours.cpu / bare.cpu);
    Ok(())
}

/// One round's figures.
#[derive(Clone, Copy)]
struct Figures {
    /// Requests per second.
    rate: f64,
    /// Microseconds of CPU per request.
    cpu: f64,
}

fn median(mut rounds: Vec<Figures>) -> Figures {
    let mut middle = |by: fn(&Figures) -> f64| {
        rounds.sort_by(|a, b| by(a).total_cmp(&by(b)));
        by(&rounds[rounds.len() / 2])
    };
    Figures { rate: middle(|round| round.rate), cpu: middle(|round| round.cpu) }
}

/// A round under way.
#[derive(Clone, Default)]
struct Run {
    done: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Run {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

async fn measure<Fut>(round: Duration, sender: impl Fn(Run) -> Fut) -> Result<Figures, Failure>
where
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let run = Run::default();
    let mut senders: JoinSet<_> = (0..CONNECTIONS).map(|_| sender(run.clone())).collect();
    tokio::time::sleep(Duration::from_millis(200)).await; // connections open, caches warm
    let (count, cpu, begin) = (run.done.load(Ordering::Relaxed), cpu_micros()?, Instant::now());
    tokio::time::sleep(round).await;
    let count = run.done.load(Ordering::Relaxed) - count;
    let (cpu, elapsed) = (cpu_micros()? - cpu, begin.elapsed());
    run.over.store(true, Ordering::Relaxed);
    while let Some(ended) = senders.join_next().await {
        ended??;
    }
    let count = count as f64;
    Ok(Figures { rate: count / elapsed.as_secs_f64(), cpu: cpu / count })
}

/// User and system time of this process, in microseconds.
fn cpu_micros() -> Result<f64, Failure> {
    const TICK: f64 = 10_000.0; // USER_HZ is 100 on Linux
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').ok_or("no such fields")?.1.split_whitespace();
    let times: Vec<f64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(times.iter().sum::<f64>() * TICK)
}

fn headers() -> Vec<(HeaderName, HeaderValue)> {
    let fields = [
        ("content-type", "application/json"),
        ("user-agent", "Pregon/0.1"),
        ("webhook-id", "pg_0123456789abcdefghij"),
        ("webhook-timestamp", "1780272000"),
        ("webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="),
    ];
    let header = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.map(header).to_vec()
}

/// The same POST with nothing in between: one connection, its driver a task, as hyper's
/// documentation has it.
async fn bare_sender(address: SocketAddr, run: Run) -> Result<(), Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let driver = tokio::spawn(connection);
    let body = Bytes::from(vec![b'x'; BODY]);
    let headers = headers();
    let host = HeaderValue::try_from(address.to_string())?;
    while !run.is_over() {
        let mut request = Request::post("/hook").body(Full::new(body.clone()))?;
        request.headers_mut().insert(http::header::HOST, host.clone());
        for (name, value) in &headers {
            request.headers_mut().append(name.clone(), value.clone());
        }
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err("the sink refused".into());
        }
        let mut read = BodyRead::new(0);
        read_body(std::pin::pin!(response.into_body()), limits::RESPONSE_READ, &mut read).await;
        run.count();
    }
    drop(sender);
    driver.await??;
    Ok(())
}

fn egress() -> Result<Egress, Failure> {
    Ok(Egress::new(EgressOptions {
        policy: EgressPolicy {
            addresses: AddressPolicy::opening(vec!["127.0.0.0/8".parse()?]),
            allow_http: true,
            ..EgressPolicy::default()
        },
        own: Own::default(),
        pools: Vec::new(),
        resolver: Arc::new(SystemResolver::default()),
        extra_roots: None,
        clock: Arc::new(SystemClock),
        limits: EgressLimits::default(),
    })?)
}

async fn egress_sender(egress: Egress, address: SocketAddr, run: Run) -> Result<(), Failure> {
    let tenant = TenantId::parse("acme").map_err(|_| "tenant")?;
    let url = EndpointUrl::parse_stored(&format!("http://{address}/hook")).map_err(|_| "url")?;
    let target = Target::new(tenant, &url);
    let body = Bytes::from(vec![b'x'; BODY]);
    let headers = headers();
    while !run.is_over() {
        // As a delivery makes it: the headers and the body are new each time.
        let request = OutboundRequest {
            method: http::Method::POST,
            target: target.clone(),
            uri: None,
            spelled: Vec::new(),
            headers: headers.clone(),
            body: body.clone(),
            keep: limits::RESPONSE_KEPT,
            asks: Asks::Status,
            resend: Resend::IfUnheard,
        };
        let exchange = egress.send(&request, Duration::from_secs(15)).await;
        let response = exchange.result.map_err(|fault| fault.detail)?;
        if !response.status.is_success() {
            return Err("the sink refused".into());
        }
        run.count();
    }
    Ok(())
}

/// Answers every request with an empty 200. The length of a connection's first request is taken
/// for that of all its others, so that the sink costs little beside what is measured.
async fn sink() -> Result<(), Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(swallow(stream));
    }
}

async fn swallow(mut stream: TcpStream) -> std::io::Result<()> {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 8192];
    let (mut length, mut have) = (None, 0);
    loop {
        let read = stream.read(&mut buffer[have..]).await?;
        if read == 0 {
            return Ok(());
        }
        have += read;
        if length.is_none() {
            let head = buffer[..have].windows(4).position(|four| four == b"\r\n\r\n");
            length = head.map(|head| head + 4 + BODY);
        }
        if length.is_some_and(|length| have >= length) {
            stream.write_all(ANSWER).await?;
            have = 0;
        }
    }
}
