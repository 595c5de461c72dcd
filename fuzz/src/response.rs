//! What a receiver answers: bytes that egress reads.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pregon_core::clock::SystemClock;
use pregon_core::id::TenantId;
use pregon_core::limits;
use pregon_core::outcome::ErrorClass;
use pregon_core::url::{AddressPolicy, EndpointUrl};
use pregon_dataplane::egress::{
    Asks, Cut, Egress, EgressLimits, EgressOptions, EgressPolicy, Exchange, OutboundRequest, Own,
    Resend, Response, SystemResolver, Target,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Far longer than any exchange with this process takes.
const AMPLE: Duration = Duration::from_secs(30);

/// Two bytes that choose where the answer is cut in two, and the answer, after which the receiver closes.
///
/// - A status that stands in a whole line decides, whatever follows it.
/// - Head and body keep their bounds, and an interim response other than 101 is no answer.
/// - In two pieces an answer that can be read is what it is in one, and one that cannot be read has no
///   other status.
/// - What is no answer is the receiver's fault, in a class that says so.
pub fn response(data: &[u8]) {
    let Some((at, answer)) = data.split_first_chunk() else { return };
    let at = usize::from(u16::from_le_bytes(*at)) % (answer.len() + 1);
    thread_local! {
        static WORLD: OnceCell<(Runtime, World)> = const { OnceCell::new() };
    }
    WORLD.with(|world| {
        let (runtime, world) = world.get_or_init(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            let world = runtime.block_on(World::open());
            (runtime, world)
        });
        runtime.block_on(world.answered(answer, at));
    });
}

struct World {
    receiver: TcpListener,
    egress: Egress,
    target: Target,
}

impl World {
    async fn open() -> Self {
        let receiver = TcpListener::bind(("127.0.0.1", 0)).await.expect("a socket");
        let address: SocketAddr = receiver.local_addr().expect("an address");
        let url = EndpointUrl::parse_stored(&format!("http://{address}/")).expect("a URL");
        let tenant = TenantId::parse("acme").expect("a tenant's id");
        let loopback = "127.0.0.1/32".parse().expect("a network");
        // No connection is used again, so that each answer meets a new one.
        let limits = EgressLimits {
            idle_per_receiver: 0,
            idle_total: 0,
            burst_per_receiver: 0,
            burst_total: 0,
            ..EgressLimits::default()
        };
        let egress = Egress::new(EgressOptions {
            policy: EgressPolicy {
                addresses: AddressPolicy::opening(vec![loopback]),
                allow_http: true,
                ..EgressPolicy::default()
            },
            own: Own::default(),
            pools: Vec::new(),
            resolver: Arc::new(SystemResolver::default()),
            extra_roots: None,
            clock: Arc::new(SystemClock),
            limits,
        });
        let egress = egress.expect("a way out");
        Self { receiver, egress, target: Target::new(tenant, &url) }
    }

    async fn answered(&self, answer: &[u8], at: usize) {
        let status = self.exchange(answer, answer.len(), Asks::Status).await;
        let (pieces, whole) = (
            self.exchange(answer, at, Asks::Status).await,
            self.exchange(answer, at, Asks::Whole).await,
        );
        for (exchange, asks) in [(&status, Asks::Status), (&whole, Asks::Whole)] {
            assert!(!exchange.resent && !exchange.reused);
            match &exchange.result {
                Ok(response) => bounded(response, asks),
                Err(fault) => {
                    assert!(!fault.class.is_ours(), "{fault:?}");
                    assert!(
                        matches!(fault.class, ErrorClass::Protocol | ErrorClass::Connect),
                        "{fault:?}"
                    );
                }
            }
        }
        match (is_readable(&status), is_readable(&pieces)) {
            (true, true) => assert_eq!(said(&status), said(&pieces), "cut at {at}"),
            // It breaks before its status is there, or behind.
            (false, false) => {
                let known =
                    [&status, &pieces].map(|it| it.result.as_ref().ok().map(|it| it.status));
                assert!(known[0] == known[1] || known.contains(&None), "{known:?}, cut at {at}");
            }
            (whole, cut) => panic!("readable whole: {whole}, cut at {at}: {cut}"),
        }
        if let Some(wanted) = status_of(answer) {
            let found = status.result.as_ref().ok().map(|response| response.status.as_u16());
            assert_eq!(found, Some(wanted), "the status decides");
        }
        if let (Ok(whole), Ok(status)) = (&whole.result, &status.result) {
            assert_eq!(whole.status, status.status);
        }
    }

    /// One request, answered by these bytes in two pieces.
    async fn exchange(&self, answer: &[u8], at: usize, asks: Asks) -> Exchange {
        let request = OutboundRequest {
            method: http::Method::GET,
            target: self.target.clone(),
            uri: None,
            headers: Vec::new(),
            spelled: Vec::new(),
            body: Bytes::new(),
            keep: limits::RESPONSE_KEPT,
            asks,
            resend: Resend::IfUnsent,
        };
        let receiver = async {
            let (mut stream, _) = self.receiver.accept().await.expect("a connection");
            receive(&mut stream).await;
            let (first, second) = answer.split_at(at);
            // Whoever has heard enough closes: then there is nobody to write to.
            if stream.write_all(first).await.is_ok() && !second.is_empty() {
                // So that the reader has its turn with the first piece alone.
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
                let _ = stream.write_all(second).await;
            }
            let _ = stream.shutdown().await;
            // Nothing is left unread, for that would turn the close into a reset.
            let mut rest = [0; 64];
            while stream.read(&mut rest).await.is_ok_and(|many| many > 0) {}
        };
        let (exchange, ()) = tokio::join!(self.egress.send(&request, AMPLE), receiver);
        exchange
    }
}

/// Reads the request, which has no body.
async fn receive(stream: &mut TcpStream) {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut read).await.expect("a request") == 0 {
            return;
        }
    }
}

/// Whether its head was read.
fn is_readable(exchange: &Exchange) -> bool {
    exchange.result.as_ref().is_ok_and(|response| response.cut != Some(Cut::Head))
}

/// What must not depend on how the bytes of an answer came.
type Said = Option<(u16, Vec<(String, String)>, Bytes, bool)>;

fn said(exchange: &Exchange) -> Said {
    let it = exchange.result.as_ref().ok()?;
    Some((it.status.as_u16(), it.header_lines(), it.body.clone(), it.truncated))
}

fn bounded(response: &Response, asks: Asks) {
    // 101 ends the exchange, though nobody asked for another protocol.
    assert!(response.status.as_u16() == 101 || response.status.as_u16() >= 200);
    assert!(response.headers.len() <= limits::RESPONSE_HEADERS);
    let size =
        |(name, value): (&http::HeaderName, &http::HeaderValue)| name.as_str().len() + value.len();
    assert!(response.headers.iter().map(size).sum::<usize>() <= limits::RESPONSE_HEADERS_LEN);
    assert!(response.body.len() <= limits::RESPONSE_KEPT);
    assert_ne!(response.cut, Some(Cut::Time), "the receiver has closed");
    assert!(asks == Asks::Status || response.cut.is_none());
    if response.cut == Some(Cut::Head) {
        assert!(response.headers.is_empty() && response.body.is_empty() && response.truncated);
    }
    for (name, value) in response.header_lines() {
        assert!(!name.is_empty() && !name.contains(char::is_whitespace), "{name:?}: {value:?}");
    }
}

/// The status of bytes that begin with a whole status line.
fn status_of(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.1 ")?;
    let (digits, rest) = rest.split_first_chunk::<3>()?;
    let ends = matches!(rest.first(), Some(b' ' | b'\r' | b'\n')) && rest.contains(&b'\n');
    let status: u16 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (ends && digits.iter().all(u8::is_ascii_digit) && status >= 200).then_some(status)
}
