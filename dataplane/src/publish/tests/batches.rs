use futures::future::join_all;
use pregon_core::event::NewEvent;

use super::*;

#[tokio::test]
async fn results_stand_in_the_order_of_the_requests() {
    let node = Node::start().await;
    let requests = (0..1000).map(|index| match index % 4 {
        0 => request_with(|_, event| event.id = format!("e{index}")),
        1 => request_with(|_, event| event.id = "a.b".into()),
        2 => request_with(|request, _| request.tenant = "tenants/nobody".into()),
        _ => request_with(|request, event| {
            request.validate_only = true;
            event.id = format!("v{index}");
        }),
    });
    let results = node.batch(requests.collect()).await.unwrap();
    assert_eq!(results.len(), 1000);
    for (index, result) in results.into_iter().enumerate() {
        match (index % 4, result) {
            (0, Ok(answer)) => assert_eq!(answer.id, format!("e{index}")),
            (1, Err(status)) => assert_eq!(reason(&status), "FIELDS_INVALID"),
            (2, Err(status)) => assert_eq!(reason(&status), "RESOURCE_NOT_FOUND"),
            (3, Ok(answer)) => assert_eq!((answer.id, answer.durability), (format!("v{index}"), 0)),
            (_, other) => panic!("{index}: {other:?}"),
        }
    }
    assert_eq!(node.calls(), [250]);
    let heads = node.config.heads.load(std::sync::atomic::Ordering::SeqCst);
    assert!(heads <= 3, "one catch-up for the whole batch, not {heads}");
}

#[tokio::test]
async fn a_batch_is_bounded() {
    let node = Node::start().await;
    let status = node.batch(Vec::new()).await.unwrap_err();
    assert_eq!(violations(&status), [("requests".into(), "REQUIRED".into())]);
    let status = node.batch(vec![request("e1"); 1001]).await.unwrap_err();
    assert_eq!(violations(&status), [("requests".into(), "TOO_MANY".into())]);
}

#[tokio::test]
async fn a_large_batch_goes_in_slices_at_once() {
    let node = Node::start().await;
    let results = node.batch((0..1000).map(|i| request(&format!("e{i}"))).collect()).await;
    assert!(results.unwrap().iter().all(Result::is_ok));
    assert_eq!(node.calls(), [256, 256, 256, 232]);
    let ids: Vec<_> =
        node.intake.stored.lock().unwrap().iter().map(|e| e.id.clone().unwrap()).collect();
    assert!(ids.iter().enumerate().all(|(i, id)| id.as_str() == format!("e{i}")));
}

#[tokio::test]
async fn a_batch_fails_as_a_whole_only_when_nothing_was_stored() {
    let node = Node::start().await;
    node.break_store(StoreError::Unavailable("gone".into()));
    let mixed = || vec![request("e1"), request("a.b")];
    assert_eq!(reason(&node.batch(mixed()).await.unwrap_err()), "STORE_UNAVAILABLE");
    let results = node.batch(vec![request("a.b")]).await.unwrap();
    assert_eq!(reason(results[0].as_ref().unwrap_err()), "FIELDS_INVALID");
    *node.intake.fault.lock().unwrap() = None;
    let results = node.batch(mixed()).await.unwrap();
    assert!(results[0].is_ok() && results[1].is_err());
}

#[tokio::test]
async fn statuses_of_a_batch_stay_within_what_clients_read() {
    use prost::Message;
    let node = Node::start().await;
    let bad = request_with(|request, event| {
        request.tenant = "x".into();
        event.id = "a.b".into();
        event.version = -1;
        event.environment = 9;
        event.data = None;
        for index in 0..4 {
            event.attributes.insert(format!("{index}"), String::new());
        }
        event.ordering_key = "x".into();
        event.subscriptions.push("x".into());
    });
    let call = from_anyone(v1::PublishBatchRequest { requests: vec![bad; 1000] });
    let answer = node.service.publish_batch(call).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), 1000);
    assert!(answer.encoded_len() < 4 * 1024 * 1024, "{}", answer.encoded_len());
}

#[tokio::test]
async fn batches_fill_while_calls_are_under_way() {
    let node = Node::start().await;
    node.close_gate();
    let ids: Vec<String> = (0..500).map(|index| format!("e{index}")).collect();
    let all = join_all(ids.iter().map(|id| node.publish(request(id))));
    let opened = async {
        while node.calls().is_empty() {
            tokio::task::yield_now().await;
        }
        node.intake.gate.add_permits(1000);
    };
    let (answers, ()) = tokio::join!(all, opened);
    for (id, answer) in ids.iter().zip(answers) {
        assert_eq!(answer.unwrap().id, *id, "everyone gets their own answer");
    }
    let calls = node.calls();
    assert_eq!(calls.iter().sum::<usize>(), 500);
    assert!(calls.len() <= 4 && calls.iter().all(|size| *size <= 256), "{calls:?}");
}

#[tokio::test]
async fn an_idle_node_stores_at_once() {
    let node = Node::start().await;
    for index in 0..3 {
        node.publish(request(&format!("e{index}"))).await.unwrap();
    }
    assert_eq!(node.calls(), [1, 1, 1]);
}

#[tokio::test]
async fn a_batch_is_bounded_in_bytes_too() {
    let node = Node::start().await;
    let publisher = node.service.publisher();
    let event = |size: usize| {
        let request = request("");
        let snapshot = node.service.0.snapshot().unwrap();
        let mut event =
            parse::parse(request, ours(), 1024, &snapshot, node.service.0.admission.clock.now())
                .unwrap()
                .event;
        event.data = vec![b' '; size].into();
        event
    };
    let sizes = [600 * 1024, 600 * 1024, 400 * 1024, 2 * 1024 * 1024, 1];
    let answers = publisher.publish_all(sizes.map(event).into()).await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(node.calls(), [1, 2, 1, 1]);

    node.intake.calls.lock().unwrap().clear();
    let tickets: Vec<_> = sizes.map(event).map(|event| publisher.enqueue(event).unwrap()).into();
    for ticket in tickets {
        ticket.answer().await.unwrap();
    }
    assert_eq!(node.calls(), [1, 2, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_not_waited_for() {
    let node = Node::start().await;
    node.close_gate();
    let begun = tokio::time::Instant::now();
    let status = node.publish(request("e1")).await.unwrap_err();
    assert_eq!(begun.elapsed().as_secs(), 2);
    assert_eq!(reason(&status), "STORE_UNAVAILABLE");
    assert!(status.message().contains("repeat with the same id"), "{}", status.message());
    let status = node.batch(vec![request("e1")]).await.unwrap_err();
    assert_eq!(reason(&status), "STORE_UNAVAILABLE");
    assert_eq!(begun.elapsed().as_secs(), 4);
}

#[tokio::test(start_paused = true)]
async fn who_gave_up_before_the_call_is_not_stored() {
    let node = Node::start().await;
    node.close_gate();
    let ids = ["a", "b", "c", "d"];
    // The first two take the pipelines; the others wait, and give up.
    let mut waiting: Vec<_> = ids.iter().map(|id| Box::pin(node.publish(request(id)))).collect();
    for (index, call) in waiting.iter_mut().enumerate() {
        assert!(futures::poll!(call).is_pending());
        while node.calls().len() < (index + 1).min(2) {
            tokio::task::yield_now().await;
        }
    }
    waiting.truncate(2);
    node.intake.gate.add_permits(100);
    assert!(join_all(waiting).await.iter().all(Result::is_ok));
    node.publish(request("e")).await.unwrap();
    assert_eq!(node.calls(), [1, 1, 1]);
}

/// What becomes true soon, in time that passes by itself.
async fn soon(what: impl Fn() -> bool) {
    let until = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), until).await.unwrap();
}

fn event(node: &Node) -> NewEvent {
    let snapshot = node.service.0.snapshot().unwrap();
    parse::parse(request(""), ours(), 1024, &snapshot, node.service.0.admission.clock.now())
        .unwrap()
        .event
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_a_sync_makes_room_for_the_next() {
    let node = Node::start().await;
    let queue = FakeIntake::answering_within(Duration::from_secs(5));
    queue.gate.forget_permits(usize::MAX);
    let publisher = Publisher::start(queue.clone());
    let mut tickets = Vec::new();
    for calls in 1..=10 {
        tickets.push(publisher.enqueue(event(&node)).unwrap());
        soon(|| queue.calls.lock().unwrap().len() == calls).await;
    }
    // One that answers late is waited for longer than one that answers at once.
    tokio::time::sleep(Duration::from_secs(3)).await;
    queue.gate.add_permits(100);
    for ticket in tickets {
        ticket.answer().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_given_up_when_all_its_callers_have() {
    let node = Node::start().await;
    node.close_gate();
    let publisher = node.service.publisher();
    let room = publisher.room_left();
    let ticket = publisher.enqueue(event(&node)).unwrap();
    soon(|| node.calls() == [1]).await;
    drop(ticket);
    soon(|| publisher.room_left() == room).await;
    assert!(node.intake.stored.lock().unwrap().is_empty());
}

#[tokio::test]
async fn load_is_shed_when_too_much_waits() {
    let node = Node::start().await;
    node.close_gate();
    let publisher = node.service.publisher();
    let event = || {
        let snapshot = node.service.0.snapshot().unwrap();
        let mut event = parse::parse(
            request(""),
            ours(),
            1024,
            &snapshot,
            node.service.0.admission.clock.now(),
        )
        .unwrap()
        .event;
        event.data = vec![b' '; 1024 * 1024].into();
        event
    };
    let mut tickets = Vec::new();
    let refusal = loop {
        match publisher.enqueue(event()) {
            Ok(ticket) => tickets.push(ticket),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(tickets.len(), 63, "64 MiB with a KiB for each event");
    assert_eq!(refusal.reason, Reason::LoadShed);
    assert!(refusal.retry_after.is_some());
    let whole = publisher.publish_all(vec![event()]).await.unwrap_err();
    assert_eq!(whole.reason, Reason::LoadShed);

    node.intake.gate.add_permits(1000);
    for ticket in tickets {
        ticket.answer().await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(10)).await; // room is given back after the answers
    publisher.publish(event()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run with --nocapture"]
async fn events_a_second() {
    let node = Arc::new(Node::start().await);
    let data = format!("{{\"text\":\"{}\"}}", "a".repeat(480));
    let make = |count: usize| -> Vec<v1::PublishRequest> {
        let mut request = request("");
        request.event.as_mut().unwrap().data = Some(Data::Json(data.clone()));
        vec![request; count]
    };
    let batches: Vec<_> = (0..2000).map(|_| make(100)).collect();
    let begun = std::time::Instant::now();
    for requests in batches {
        let call = from_anyone(v1::PublishBatchRequest { requests });
        node.service.publish_batch(call).await.unwrap();
    }
    println!("batches of 100, one after the other: {:?} an event", begun.elapsed() / 200_000);

    let callers: Vec<_> = (0..64).map(|_| make(2000)).collect();
    let begun = std::time::Instant::now();
    let callers = callers.into_iter().map(|requests| {
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            for request in requests {
                node.publish(request).await.unwrap();
            }
        })
    });
    join_all(callers.collect::<Vec<_>>()).await;
    let calls = node.calls();
    let sizes = &calls[2000..];
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    println!("64 callers: {:?} an event, {mean} events a call", begun.elapsed() / 128_000);
}
