use pregon_proto::v1::event_service_client::EventServiceClient;
use pregon_proto::v1::publish_ack::Outcome;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::{Channel, Server};

use super::*;

/// Serves a node on a port; every call there is this caller's.
async fn serve(node: &Node, caller: Caller) -> EventServiceClient<Channel> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = node.service.clone();
    let service = EventServiceServer::with_interceptor(service, move |mut request: Request<()>| {
        request.extensions_mut().insert(caller.clone());
        Ok(request)
    });
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    EventServiceClient::new(channel.connect().await.unwrap())
}

/// A stream to a node over a real connection.
pub(super) struct Publishing {
    node: Node,
    requests: mpsc::Sender<v1::PublishStreamRequest>,
    answers: Streaming<v1::PublishStreamResponse>,
}

impl Publishing {
    async fn start() -> Self {
        Self::by(Caller::anyone()).await
    }

    pub(super) async fn by(caller: Caller) -> Self {
        let node = Node::start().await;
        let mut client = serve(&node, caller).await;
        let (requests, receiver) = mpsc::channel(16);
        let answers = client.publish_stream(ReceiverStream::new(receiver)).await.unwrap();
        Self { node, requests, answers: answers.into_inner() }
    }

    pub(super) async fn send(&self, sequence: i64, request: v1::PublishRequest) {
        let request = v1::PublishStreamRequest { sequence, request: Some(request) };
        self.requests.send(request).await.unwrap();
    }

    /// The next `count` acknowledgements.
    pub(super) async fn acks(
        &mut self,
        count: usize,
    ) -> Vec<(i64, Result<v1::PublishResponse, Status>)> {
        let mut acks = Vec::new();
        while acks.len() < count {
            let message = self.answers.message().await.unwrap().unwrap();
            assert!(!message.acks.is_empty());
            acks.extend(message.acks.into_iter().map(|ack| match ack.outcome.unwrap() {
                Outcome::Result(response) => (ack.sequence, Ok(response)),
                Outcome::Status(status) => (ack.sequence, Err(unwire(&status))),
            }));
        }
        assert_eq!(acks.len(), count);
        acks
    }

    async fn end(mut self) -> Result<(), Status> {
        drop(self.requests);
        match self.answers.message().await? {
            None => Ok(()),
            Some(more) => panic!("more acknowledgements: {more:?}"),
        }
    }
}

#[tokio::test]
async fn acknowledgements_come_in_order_each_with_its_own_outcome() {
    let mut stream = Publishing::start().await;
    for index in 0..300i64 {
        let request = match index % 3 {
            0 => request(&format!("e{index}")),
            1 => request("a.b"),
            _ => request_with(|request, _| request.validate_only = true),
        };
        stream.send(index * 7 + 1, request).await;
    }
    for (index, (sequence, outcome)) in (0i64..).zip(stream.acks(300).await) {
        assert_eq!(sequence, index * 7 + 1);
        match (index % 3, outcome) {
            (0, Ok(answer)) => assert_eq!(answer.id, format!("e{index}")),
            (1, Err(status)) => assert_eq!(reason(&status), "FIELDS_INVALID"),
            (2, Ok(answer)) => assert_eq!(answer.durability, 0),
            (_, other) => panic!("{index}: {other:?}"),
        }
    }
    stream.requests.send(v1::PublishStreamRequest { sequence: 9000, request: None }).await.unwrap();
    let acks = stream.acks(1).await;
    let status = acks[0].1.as_ref().unwrap_err();
    assert_eq!(violations(status), [("request".into(), "REQUIRED".into())]);
    stream.end().await.unwrap();
}

#[tokio::test]
async fn a_sequence_must_rise() {
    for (first, second) in [(0, None), (-5, None), (3, Some(3)), (3, Some(2))] {
        let mut stream = Publishing::start().await;
        stream.send(first, request("e1")).await;
        if let Some(second) = second {
            stream.send(second, request("e2")).await;
            let acks = stream.acks(1).await;
            assert!(acks[0].0 == 3 && acks[0].1.is_ok(), "what came before is acknowledged");
        }
        let status = stream.end().await.unwrap_err();
        assert_eq!(violations(&status), [("sequence".into(), "OUT_OF_RANGE".into())]);
    }
}

#[tokio::test]
async fn reading_stops_at_a_thousand_unacknowledged() {
    let mut stream = Publishing::start().await;
    stream.node.close_gate();
    let requests = stream.requests.clone();
    let sender = tokio::spawn(async move {
        for index in 1..=3000i64 {
            let request = Some(request(&format!("e{index}")));
            let message = v1::PublishStreamRequest { sequence: index, request };
            requests.send(message).await.unwrap();
        }
    });
    // Two calls are under way; what they and the queue hold is what was read.
    tokio::time::sleep(Duration::from_millis(300)).await; // long enough to read all, if it did
    let read = 64 * 1024 - stream.node.service.publisher().room_left();
    assert_eq!(read, 1000);
    stream.node.intake.gate.add_permits(10_000);
    let acks = stream.acks(3000).await;
    assert!(
        acks.iter().zip(1i64..).all(|((sequence, outcome), i)| *sequence == i && outcome.is_ok())
    );
    sender.await.unwrap();
    stream.end().await.unwrap();
}

#[tokio::test]
async fn a_draining_node_acknowledges_what_it_took_and_ends_the_stream() {
    let mut stream = Publishing::start().await;
    stream.node.close_gate();
    stream.send(1, request("e1")).await;
    while stream.node.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    stream.node.draining.cancel();
    stream.node.intake.gate.add_permits(10);
    assert!(stream.acks(1).await[0].1.is_ok());
    let status = stream.answers.message().await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, "DRAINING".into()));
}

#[tokio::test]
async fn a_node_without_configuration_takes_no_stream() {
    let node = Node::unready();
    node.draining.cancel();
    let mut client = serve(&node, Caller::anyone()).await;
    let status = client.publish_stream(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(reason(&status), "DRAINING");
}
