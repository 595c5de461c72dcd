//! Publishing by PublishStream: a window of unacknowledged events, acknowledged in order.
//!
//! When a stream breaks, what it had not acknowledged is unknown: the next stream publishes it
//! again, if the events have ids of their own.

use std::collections::VecDeque;

use pregon_proto::v1::event_service_client::EventServiceClient;
use pregon_proto::v1::{
    PublishAck, PublishStreamRequest, PublishStreamResponse, publish_ack::Outcome,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::source::Work;
use super::{Load, pause};
use crate::clock::Moment;

/// What one caller has still to see acknowledged.
#[derive(Debug, Default)]
struct Open {
    /// Sent on the present stream, in the order sent.
    sent: VecDeque<(i64, Work)>,
    /// To be published again.
    again: VecDeque<Work>,
    /// The source has nothing left.
    over: bool,
    /// Number of the last request of the present stream.
    sequence: i64,
}

/// One caller of PublishStream, until there is nothing left to publish.
pub async fn run(load: &Load, mut client: EventServiceClient<Channel>) {
    let mut open = Open::default();
    while !open.is_done() {
        if let Some(work) = open.again.front() {
            tokio::time::sleep(pause(work.tries)).await;
        }
        if let Err(status) = stream(load, &mut client, &mut open).await {
            open.broke(load, &status);
        }
    }
}

/// One stream, until nothing is left to publish or it breaks.
async fn stream(
    load: &Load,
    client: &mut EventServiceClient<Channel>,
    open: &mut Open,
) -> Result<(), Status> {
    let window = usize::try_from(load.args.window).unwrap_or(1);
    // As long as the window, so that there is always room.
    let (requests, outbound) = mpsc::channel(window);
    open.sequence = 0;
    // The server may answer with its headers only after the first request.
    while open.sent.len() < window
        && let Some(work) = open.next_now(load).await
    {
        open.send(load, &requests, work)?;
    }
    let mut inbound: Streaming<PublishStreamResponse> =
        client.publish_stream(ReceiverStream::new(outbound)).await?.into_inner();
    while !open.is_done() {
        let room = open.sent.len() < window;
        tokio::select! {
            biased;
            work = load.source.next(), if room && !open.over && open.again.is_empty() => {
                match work {
                    Some(work) => open.send(load, &requests, work)?,
                    None => open.over = true,
                }
            }
            () = tokio::time::sleep(open.pause()), if room && !open.again.is_empty() => {
                while open.sent.len() < window && let Some(work) = open.again.pop_front() {
                    open.send(load, &requests, work)?;
                }
            }
            message = inbound.message() => match message? {
                Some(message) => open.acknowledge(load, message.acks)?,
                None => return Err(Status::unavailable("the server ended the stream")),
            },
        }
    }
    drop(requests);
    while inbound.message().await?.is_some() {}
    Ok(())
}

impl Open {
    fn is_done(&self) -> bool {
        self.over && self.sent.is_empty() && self.again.is_empty()
    }

    fn pause(&self) -> std::time::Duration {
        pause(self.again.front().map_or(1, |work| work.tries))
    }

    /// The next event, of those to be repeated first; waits for at most one that is due.
    async fn next_now(&mut self, load: &Load) -> Option<Work> {
        if let Some(work) = self.again.pop_front() {
            return Some(work);
        }
        if self.over || !self.sent.is_empty() {
            return None;
        }
        let work = load.source.next().await;
        self.over = work.is_none();
        work
    }

    fn send(
        &mut self,
        load: &Load,
        requests: &mpsc::Sender<PublishStreamRequest>,
        work: Work,
    ) -> Result<(), Status> {
        self.sequence += 1;
        self.sent.push_back((self.sequence, work));
        load.tally.sent(&work);
        let request = Some(load.request(&work));
        requests
            .try_send(PublishStreamRequest { sequence: self.sequence, request })
            .map_err(|_| Status::unavailable("the stream takes no more requests"))
    }

    fn acknowledge(&mut self, load: &Load, acks: Vec<PublishAck>) -> Result<(), Status> {
        let now = Moment::now();
        for ack in acks {
            let Some((_, work)) = self.sent.pop_front_if(|(sequence, _)| *sequence == ack.sequence)
            else {
                return Err(Status::internal("acknowledged out of order"));
            };
            match ack.outcome {
                Some(Outcome::Result(answer)) => load.tally.acked(&work, &answer, now),
                Some(Outcome::Status(status)) => {
                    self.refused(
                        load,
                        &work,
                        &Status::new(Code::from(status.code), status.message),
                    );
                }
                None => self.refused(load, &work, &Status::internal("an ack says nothing")),
            }
        }
        Ok(())
    }

    fn refused(&mut self, load: &Load, work: &Work, status: &Status) {
        if load.again(work, status) {
            self.again.push_back(Work { tries: work.tries + 1, ..*work });
        } else {
            load.tally.failed(status);
        }
    }

    /// The stream ended with `status`, and nobody knows what became of what was sent.
    fn broke(&mut self, load: &Load, status: &Status) {
        let before = self.again.len();
        for (_, work) in std::mem::take(&mut self.sent) {
            self.refused(load, &work, status);
        }
        // First sent, first again.
        self.again.rotate_left(before);
    }
}
