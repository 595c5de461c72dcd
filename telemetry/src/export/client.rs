//! The connection to a collector, over which encoded requests go.
//!
//! Requests are encoded once and sent as they are: a repeat costs no copy, and the three services
//! differ in their path only.

use std::path::PathBuf;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

use crate::pipe::Signal;
use crate::settings::Target;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a connection is probed, so that one whose other end is gone is noticed.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Answers of a collector: a few numbers and words.
const ANSWER_LEN: usize = 64 * 1024;

/// What is wrong with where telemetry is to go.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file of the settings cannot be read.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: std::io::Error,
    },
    /// The endpoint, or what TLS needs of it.
    #[error("the endpoint of {signal} cannot be used")]
    Endpoint {
        /// Of which signal.
        signal: &'static str,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// A header that cannot stand in a request.
    #[error("the header {name:?} of {signal} cannot be sent")]
    Header {
        /// Of which signal.
        signal: &'static str,
        /// Its name; never its value.
        name: String,
    },
}

/// Sends requests of one signal to a collector.
#[derive(Clone)]
pub(crate) struct Client {
    grpc: Grpc<Channel>,
    path: PathAndQuery,
    headers: MetadataMap,
    timeout: Duration,
}

impl std::fmt::Debug for Client {
    /// Not the headers: they may be credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A client that connects when it is first used, and again whenever it has to.
pub(crate) fn connect(signal: Signal, target: &Target) -> Result<Client, ClientError> {
    let refused = |source| ClientError::Endpoint { signal: signal.word(), source };
    let mut endpoint = Endpoint::from_shared(target.endpoint.clone())
        .map_err(refused)?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE);
    if target.endpoint.starts_with("https:") {
        endpoint = endpoint.tls_config(tls(target)?).map_err(refused)?;
    }
    let mut grpc = Grpc::new(endpoint.connect_lazy()).max_decoding_message_size(ANSWER_LEN);
    if target.gzip {
        grpc = grpc.send_compressed(CompressionEncoding::Gzip);
    }
    let path = PathAndQuery::from_static(match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    });
    Ok(Client { grpc, path, headers: headers(signal, target)?, timeout: target.timeout })
}

fn tls(target: &Target) -> Result<ClientTlsConfig, ClientError> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|why| ClientError::File { path: path.clone(), why })
    };
    let mut tls = ClientTlsConfig::new();
    tls = match &target.certificate {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
        None => tls.with_webpki_roots(),
    };
    if let Some((certificate, key)) = &target.client {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(tls)
}

fn headers(signal: Signal, target: &Target) -> Result<MetadataMap, ClientError> {
    let mut map = MetadataMap::new();
    for (name, value) in &target.headers {
        let key = name.to_ascii_lowercase().parse::<AsciiMetadataKey>();
        let value = value.parse::<AsciiMetadataValue>();
        let (Ok(key), Ok(mut value)) = (key, value) else {
            return Err(ClientError::Header { signal: signal.word(), name: name.clone() });
        };
        value.set_sensitive(true);
        map.append(key, value);
    }
    Ok(map)
}

impl Client {
    /// Sends one encoded request.
    pub(crate) async fn send(&self, message: Bytes) -> Result<ExportLogsServiceResponse, Status> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.headers.clone();
        let mut grpc = self.grpc.clone();
        let exchange = async {
            grpc.ready().await.map_err(|error| Status::unavailable(told(&error)))?;
            grpc.unary(request, self.path.clone(), Encoded).await
        };
        match timeout(self.timeout, exchange).await {
            Ok(answer) => answer.map(tonic::Response::into_inner).map_err(cut_off),
            Err(_) => Err(Status::deadline_exceeded("no answer in time")),
        }
    }
}

/// A connection that breaks under an export says UNKNOWN, as a collector may; only the connection's
/// word has a cause in this process. What it carried may be sent again.
fn cut_off(status: Status) -> Status {
    let cause = std::error::Error::source(&status).map(told);
    match (status.code(), cause) {
        (Code::Unknown, Some(cause)) => Status::unavailable(cause),
        (_, _) => status,
    }
}

/// An error with what led to it.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Requests are encoded already; answers are those of any of the three services.
#[derive(Clone, Copy, Debug, Default)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = ExportLogsServiceResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = ExportLogsServiceResponse;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let answer = ExportLogsServiceResponse::decode(from);
        answer.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
