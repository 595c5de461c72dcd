//! What reflection says of a server.

use std::collections::BTreeSet;

use super::*;

/// Asks one thing by one version of reflection: names of services or of files.
macro_rules! reflection {
    ($version:ident, $channel:expr, $ask:ident, $with:expr) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let ask = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::$ask($with)),
        };
        let mut answers = ServerReflectionClient::new($channel)
            .server_reflection_info(tokio_stream::once(ask))
            .await
            .unwrap()
            .into_inner();
        match answers.next().await.unwrap().unwrap().message_response.unwrap() {
            MessageResponse::ListServicesResponse(list) => {
                list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
            }
            MessageResponse::FileDescriptorResponse(files) => files
                .file_descriptor_proto
                .iter()
                .map(|f| FileDescriptorProto::decode(f.as_slice()).unwrap().name().to_owned())
                .collect(),
            other => panic!("{other:?}"),
        }
    }};
}

#[tokio::test]
async fn reflection_names_what_is_served_in_both_versions() {
    let server = Running::start(Limits::default()).await;
    let channel = || server.channel.clone();
    let served = [
        "test.Test",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ];
    assert_eq!(reflection!(v1, channel(), ListServices, String::new()), served);
    assert_eq!(reflection!(v1alpha, channel(), ListServices, String::new()), served);
    for (symbol, file) in [
        ("test.Test.Echo", "test.proto"),
        ("google.rpc.BadRequest", "google/rpc/error_details.proto"),
        ("grpc.health.v1.Health", "health.proto"),
    ] {
        assert_eq!(reflection!(v1, channel(), FileContainingSymbol, symbol.into()), [file]);
        assert_eq!(reflection!(v1alpha, channel(), FileContainingSymbol, symbol.into()), [file]);
    }
}

/// Reflection is only of use when every file that a file imports can be had as well.
#[tokio::test]
async fn the_whole_api_can_be_described() {
    let set = FileDescriptorSet::decode(pregon_proto::FILE_DESCRIPTOR_SET).unwrap();
    let listener = local().await;
    let channel = connect(listener.local_addr());
    let waits = ["/pregon.v1.NodeService/WaitForRevision"];
    let server =
        Server::new(pregon_proto::FILE_DESCRIPTOR_SET, &waits, Revision::none(), Limits::default());
    let ready = server.unwrap().on(listener).await.unwrap();
    tokio::spawn(ready.serve(CancellationToken::new()));
    let channel = channel.await.unwrap();
    let imports: BTreeSet<_> =
        set.file.iter().flat_map(|file| file.dependency.iter().cloned()).collect();
    assert!(!imports.is_empty());
    for import in imports {
        let had = reflection!(v1, channel.clone(), FileByFilename, import.clone());
        assert_eq!(had, [import]);
    }
    let symbol = "google.rpc.Status".to_owned();
    let had = reflection!(v1, channel, FileContainingSymbol, symbol);
    assert_eq!(had, ["google/rpc/status.proto"], "and in one file only");
}
