//! Pregón's gRPC API: the generated code and its descriptor set.
//!
//! The source is `proto/pregon/v1/*.proto`; its comments are the API reference. Wire types stop at
//! the handlers: whatever has rules is parsed into a type of `pregon-core` there. Written by hand
//! is only the `Debug` of messages that carry keys.

mod hidden;

/// Messages, enums, clients and servers of the package `pregon.v1`.
///
/// A service `XService` is in `x_service_client` and `x_service_server`. `google.rpc.Status` is
/// [`tonic_types::Status`], well-known types are those of [`prost_types`].
#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::restriction)]
#[allow(rustdoc::all, rust_2018_idioms)]
pub mod v1 {
    tonic::include_proto!("pregon.v1");
}

/// Encoded `google.protobuf.FileDescriptorSet` of `pregon.v1` with everything it imports and all
/// comments, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("pregon_descriptor_set");

#[cfg(test)]
mod tests;
