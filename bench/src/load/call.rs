//! Publishing by calls: Publish and PublishBatch.

use pregon_proto::v1::event_service_client::EventServiceClient;
use pregon_proto::v1::{PublishBatchRequest, PublishBatchResult, publish_batch_result};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::source::Work;
use super::{CALL_TIME, Load, pause};
use crate::clock::Moment;

/// One caller of Publish, until there is nothing left to publish.
pub async fn unary(load: &Load, mut client: EventServiceClient<Channel>) {
    while let Some(mut work) = load.source.next().await {
        loop {
            load.tally.sent(&work);
            let mut request = Request::new(load.request(&work));
            request.set_timeout(CALL_TIME);
            let status = match client.publish(request).await {
                Ok(answer) => {
                    load.tally.acked(&work, answer.get_ref(), Moment::now());
                    break;
                }
                Err(status) => status,
            };
            if !load.again(&work, &status) {
                load.tally.failed(&status);
                break;
            }
            work.tries += 1;
            tokio::time::sleep(pause(work.tries)).await;
        }
    }
}

/// One caller of PublishBatch, until there is nothing left to publish. What is to be repeated goes
/// as a batch of its own before the next.
pub async fn batch(load: &Load, mut client: EventServiceClient<Channel>) {
    loop {
        let mut works = load.source.batch(load.args.batch).await;
        if works.is_empty() {
            return;
        }
        while !works.is_empty() {
            if works[0].tries > 0 {
                tokio::time::sleep(pause(works[0].tries)).await;
            }
            let results = call(load, &mut client, &works).await;
            works = settle(load, &works, results);
        }
    }
}

async fn call(
    load: &Load,
    client: &mut EventServiceClient<Channel>,
    works: &[Work],
) -> Result<Vec<PublishBatchResult>, Status> {
    for work in works {
        load.tally.sent(work);
    }
    let requests = works.iter().map(|work| load.request(work)).collect();
    let mut request = Request::new(PublishBatchRequest { requests });
    request.set_timeout(CALL_TIME);
    Ok(client.publish_batch(request).await?.into_inner().results)
}

/// Counts the answers; the events that are to be published again.
fn settle(
    load: &Load,
    works: &[Work],
    results: Result<Vec<PublishBatchResult>, Status>,
) -> Vec<Work> {
    let now = Moment::now();
    let mut again = Vec::new();
    let mut refused = |work: &Work, status: &Status| {
        if load.again(work, status) {
            again.push(Work { tries: work.tries + 1, ..*work });
        } else {
            load.tally.failed(status);
        }
    };
    match results {
        Err(status) => works.iter().for_each(|work| refused(work, &status)),
        Ok(results) => {
            let missing = std::iter::repeat_with(PublishBatchResult::default);
            for (work, result) in works.iter().zip(results.into_iter().chain(missing)) {
                match result.outcome {
                    Some(publish_batch_result::Outcome::Result(answer)) => {
                        load.tally.acked(work, &answer, now);
                    }
                    Some(publish_batch_result::Outcome::Status(status)) => {
                        refused(work, &Status::new(Code::from(status.code), status.message));
                    }
                    None => refused(work, &Status::internal("no result for this request")),
                }
            }
        }
    }
    again
}
