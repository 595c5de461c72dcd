//! One request for several deliveries of a subscription.
//!
//! Each event is rendered by itself, so one that cannot be is given up alone. The answer decides
//! about all that were sent, each by its own age.

use super::*;

/// How an attempt came out for each of several deliveries.
pub(in crate::worker) struct Together {
    /// The first that was sent; where none was, the first of all. Its outcome is `fired`.
    pub(in crate::worker) first: usize,
    pub(in crate::worker) fired: Fired,
    /// The others' outcomes, in their order; none: it found no room in the request.
    pub(in crate::worker) others: Vec<Option<Outcome>>,
}

type Outcome = (Decision, Arc<AttemptRecord>);

/// A body that is ready, and whose it is.
struct Ready {
    at: usize,
    body: Bytes,
}

/// Makes one attempt for several deliveries; at least one, under one contract, of one number.
pub(in crate::worker) async fn fire_together(context: &Context, shots: &[Shot<'_>]) -> Together {
    let start = context.clock.now();
    let mut unmade: Vec<(usize, Unmade)> = Vec::new();
    let mut ready: Vec<Ready> = Vec::new();
    let begun = Instant::now();
    for (at, shot) in shots.iter().enumerate() {
        match guarded(|| contract::render_body(&shot.lane.contract, &input(context, shot, start))) {
            Ok(body) => ready.push(Ready { at, body }),
            Err(why) => unmade.push((at, why)),
        }
    }
    let mut sent = Sent { time: start, keys: Vec::new(), request: None, render: 0 };
    let mut count = ready.len();
    if let Some(first) = ready.first().map(|ready| &shots[ready.at]) {
        let made = guarded(|| {
            let bodies: Vec<_> = ready.iter().map(|ready| ready.body.clone()).collect();
            let around = input(context, first, start);
            let (rendered, count) =
                contract::render_together(&first.lane.contract, &around, &bodies)?;
            finish(context, first, &rendered, &mut sent).map(|()| count)
        });
        match made {
            Ok(taken) => count = taken,
            Err(why) => {
                // What fails here is the first event's, its keys', or the contract's.
                unmade.extend(ready.drain(..).map(|ready| (ready.at, why.clone())));
                count = 0;
            }
        }
    }
    sent.render = micros(begun.elapsed());
    let left = ready.split_off(count.min(ready.len()));
    let mut exchanged = match (&sent.request, ready.first()) {
        (Some(request), Some(first)) => {
            let shot = &shots[first.at];
            let exchange = context.egress.send(request, shot.timeout).await;
            let judged = match &exchange.result {
                Ok(response) => judge(context, shot, sent.time, response),
                Err(_) => Judged::default(),
            };
            Some((exchange, judged))
        }
        (_, _) => None,
    };
    let (ended, ended_at) = (context.clock.now(), Instant::now());
    let Sent { time, keys, request, render } = sent;
    let written = |(at, why): (usize, Unmade)| {
        let shot = &shots[at];
        (at, why.written(shot, record(context, shot, time, Vec::new()), ended))
    };
    let mut others: Vec<(usize, Option<Outcome>)> =
        left.iter().map(|left| (left.at, None)).collect();
    let mut unmade: Vec<_> = unmade.into_iter().map(written).collect();
    let (first, fired) = match (exchanged.take(), ready.first()) {
        (Some((exchange, judged)), Some(first)) => {
            let decisions: Vec<_> = ready[1..]
                .iter()
                .map(|ready| (ready.at, decision(&shots[ready.at], ended, &exchange, judged)))
                .collect();
            let shot = &shots[first.at];
            let own = record(context, shot, time, keys);
            let fired = conclude(context, shot, (ended, ended_at), own, exchange, judged);
            let fired = cleaned(context, shots, &ready, fired);
            let also = decisions.into_iter().map(|(at, decision)| {
                (at, Some((decision, of(&shots[at], &fired.record, decision))))
            });
            others.extend(also);
            (first.at, Fired { request, render, ..fired })
        }
        (_, _) => {
            let (at, (decision, record)) = unmade.remove(0);
            let pace = Pace::Other;
            (at, Fired { decision, pace, ended, record, request: None, render, ended_at })
        }
    };
    others.extend(unmade.into_iter().map(|(at, outcome)| (at, Some(outcome))));
    others.sort_unstable_by_key(|(at, _)| *at);
    let others = others.into_iter().map(|(_, outcome)| outcome).collect();
    Together { first, fired, others }
}

/// Does something of which a panic is the delivery's fault, not the node's.
fn guarded<T>(work: impl FnOnce() -> Result<T, RenderError>) -> Result<T, Unmade> {
    match std::panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(Unmade::from),
        Err(_) => Err(Unmade::Never("the attempt panicked".to_owned())),
    }
}

/// What is kept of the answer has nothing in it that is sensitive in any of the events.
fn cleaned(context: &Context, shots: &[Shot<'_>], sent: &[Ready], mut fired: Fired) -> Fired {
    let record = Arc::make_mut(&mut fired.record);
    for other in sent.iter().skip(1) {
        record.response = record.response.take().map(|it| clean(context, &shots[other.at], it));
    }
    fired
}

/// The record of another delivery of the same request.
fn of(shot: &Shot<'_>, first: &AttemptRecord, decision: Decision) -> Arc<AttemptRecord> {
    Arc::new(AttemptRecord {
        key: shot.key,
        tenant: shot.event.tenant.clone(),
        event_type: shot.event.event_type.clone(),
        environment: shot.event.environment,
        configuration_revision: shot.revision,
        error_class: decision.error_class,
        ..first.clone()
    })
}
