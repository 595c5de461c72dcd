//! A call whose request bytes are spoilt on the way: what no generated client sends.

use bytes::{Buf, BufMut};
use pregon_proto::v1::PublishRequest;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
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

/// Bytes in, bytes out.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
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
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        from.advance(from.remaining());
        Ok(Some(()))
    }
}
