//! Calls whose request bytes no generated client sends.

use bytes::{Buf, BufMut};
use pregon_proto::v1::PublishRequest;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::tokio_stream;
use tonic::transport::Channel;

/// Publishes a message after its encoded bytes were changed.
pub async fn publish(
    channel: Channel,
    request: &PublishRequest,
    spoil: impl FnOnce(&mut Vec<u8>),
) -> Result<(), Status> {
    let mut bytes = request.encode_to_vec();
    spoil(&mut bytes);
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("the channel is open");
    let path = PathAndQuery::from_static("/pregon.v1.EventService/Publish");
    client.unary(tonic::Request::new(bytes), path, Raw).await.map(|_| ())
}

/// Calls any method, of any kind, with one message; the bytes of the first that it answers with.
pub async fn call(
    channel: &Channel,
    path: &str,
    message: Vec<u8>,
    token: Option<&str>,
) -> Result<Vec<u8>, Status> {
    let mut request = tonic::Request::new(tokio_stream::once(message));
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().expect("a token is visible ASCII");
        request.metadata_mut().insert("authorization", value);
    }
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.expect("the channel is open");
    let path = PathAndQuery::try_from(path).expect("a path");
    let mut answers = client.streaming(request, path, Raw).await?.into_inner();
    Ok(answers.message().await?.unwrap_or_default())
}

/// Bytes in, bytes out.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).into()))
    }
}
