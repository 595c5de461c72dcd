//! Test sends go with who asked for them, and with the store.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use pregon_core::event::Event;

use super::*;
use crate::test_send::{TESTS_MAX, TestSend};

const MINUTE: Duration = Duration::from_secs(60);

fn test() -> TestSend {
    let position = Position { ms: 1, partition: 0, n: 0 };
    let event = Event {
        position,
        tenant: tenant(),
        id: EventId::assigned(position),
        version: 0,
        event_type: EventTypeId::parse("order.captured").unwrap(),
        environment: Environment::Live,
        given_occur_time: None,
        erased: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes: Default::default(),
        data: Bytes::from_static(b"{}"),
    };
    TestSend { lane: LaneNo(1), event, min_revision: 0, timeout: MINUTE, trace: None }
}

/// Polls once: in memory, that hands it over.
fn begin<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_test_send_goes_with_who_asked() {
    let bench = Bench::memory();
    let (tests, node) = (&bench.store.tests, NodeId::parse("n1").unwrap());
    // More than there may be at once: each that was dropped made room.
    for _ in 0..=TESTS_MAX {
        let mut asked = Box::pin(tests.send_test(test(), MINUTE, MINUTE));
        assert!(begin(asked.as_mut()).is_pending());
    }
    assert_eq!(tests.take_tests(&node, 5).await, Ok(Vec::new()));

    let mut asked = Box::pin(tests.send_test(test(), MINUTE, MINUTE));
    assert!(begin(asked.as_mut()).is_pending());
    let taken = tests.take_tests(&node, 5).await.unwrap();
    drop(asked);
    assert_eq!(tests.settle_test(&taken[0].ticket, Bytes::new()).await, Ok(()));
}

#[tokio::test]
async fn who_waits_is_told_that_the_store_closes() {
    let bench = Bench::memory();
    let tests = &bench.store.tests;
    let mut asked = pin!(tests.send_test(test(), MINUTE, MINUTE));
    assert!(begin(asked.as_mut()).is_pending());
    bench.embedded.close();
    assert_eq!(asked.await, Err(StoreError::Closed));
    assert_eq!(tests.send_test(test(), MINUTE, MINUTE).await, Err(StoreError::Closed));
}
