//! One request for several deliveries of a subscription.
//!
//! Each event is rendered by itself, so one that cannot be is given up alone. The answer decides
//! about all that were sent, each by its own age.

use std::ops::Range;

use pregon_core::contract::compiled::BODY_LEN;

use super::*;

/// How an attempt came out for each of several deliveries.
pub(in crate::worker) struct Together {
    /// The first that was sent; where none was, one of those that could not be. Its outcome is
    /// `fired`.
    pub(in crate::worker) first: usize,
    pub(in crate::worker) fired: Fired,
    /// The others' outcomes, in their order; none: it found no room in the request.
    pub(in crate::worker) others: Vec<Option<Outcome>>,
}

type Outcome = (Decision, Arc<AttemptRecord>);

/// Bytes of rendered bodies that one request keeps until it is made; what would pass it waits.
const BODIES_LEN: usize = 2 * BODY_LEN;

/// The bodies that are ready, and whose they are.
#[derive(Default)]
struct Ready {
    places: Vec<usize>,
    bodies: Vec<Bytes>,
}

/// What becomes of deliveries before anything is sent.
#[derive(Default)]
struct Made {
    /// Those in the request, in their order; none: there is no request.
    sent: Vec<usize>,
    unmade: Vec<(usize, Unmade)>,
    left: Vec<usize>,
}

/// Makes one attempt for several deliveries; at least one, under one contract, of one number.
pub(in crate::worker) async fn fire_together(context: &Context, shots: &[Shot<'_>]) -> Together {
    let start = context.clock.now();
    let begun = Instant::now();
    let mut sent = Sent { time: start, keys: Vec::new(), request: None, render: 0 };
    let mut made = make(context, shots, &mut sent);
    sent.render = micros(begun.elapsed());
    let mut exchanged = None;
    if let (Some(request), Some(first)) = (&sent.request, made.sent.first()) {
        let (shot, time) = (&shots[*first], sent.time);
        let exchange = AssertUnwindSafe(async {
            let client = shot.lane.client.as_ref();
            let exchange = oauth::send(&context.egress, client, request, shot.timeout).await;
            let judged = match &exchange.result {
                Ok(response) => judge(context, shot, time, response),
                Err(_) => Judged::default(),
            };
            (exchange, judged)
        });
        match exchange.catch_unwind().await {
            Ok(done) => exchanged = Some(done),
            Err(_) => made.unmade.extend(made.sent.drain(..).map(|at| (at, panicked()))),
        }
    }
    let (ended, ended_at) = (context.clock.now(), Instant::now());
    let Sent { time, keys, request, render } = sent;
    let mut unmade: Vec<_> = made
        .unmade
        .into_iter()
        .map(|(at, why)| {
            let shot = &shots[at];
            (at, why.written(shot, record(context, shot, time, Vec::new()), ended))
        })
        .collect();
    let mut others: Vec<(usize, Option<Outcome>)> =
        made.left.into_iter().map(|at| (at, None)).collect();
    let (first, fired) = match (exchanged, made.sent.as_slice()) {
        (Some((exchange, judged)), [first, rest @ ..]) => {
            let decide = |at: usize| decision(&shots[at], ended, &exchange, judged);
            let decisions: Vec<_> = rest.iter().map(|at| (*at, decide(*at))).collect();
            let (shot, times) = (&shots[*first], (ended, ended_at));
            let events: Vec<_> = made.sent.iter().map(|at| shots[*at].event).collect();
            let own = record(context, shot, time, keys);
            let fired = conclude(context, shot, &events, times, own, exchange, judged);
            others.extend(decisions.into_iter().map(|(at, decision)| {
                (at, Some((decision, of(&shots[at], &fired.record, decision))))
            }));
            (*first, Fired { request, render, ..fired })
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

/// Makes the request of as many as can go out together.
fn make(context: &Context, shots: &[Shot<'_>], sent: &mut Sent) -> Made {
    let (mut made, mut ready, mut held) = (Made::default(), Ready::default(), 0);
    for (at, shot) in shots.iter().enumerate() {
        if held > BODIES_LEN {
            made.left.push(at);
            continue;
        }
        if let Err(late) = Unmade::check_time(shot, sent.time) {
            made.unmade.push((at, late));
            continue;
        }
        let input = input(context, shot, sent.time);
        match guarded(|| contract::render_body(&shot.lane.contract, &input)) {
            Ok(body) => {
                held += body.len();
                ready.places.push(at);
                ready.bodies.push(body);
            }
            Err(why) => made.unmade.push((at, why)),
        }
    }
    let all = ready.places.len();
    let Range { start, end } = ready.request(context, shots, sent, &mut made.unmade);
    made.sent.extend_from_slice(&ready.places[start..end]);
    made.left.extend_from_slice(&ready.places[end..all]);
    made
}

impl Ready {
    /// Makes the request of as many of the bodies as can go out together. Those before the range
    /// that it returns cannot be sent at all; those behind it wait for another request.
    fn request(
        &self,
        context: &Context,
        shots: &[Shot<'_>],
        sent: &mut Sent,
        unmade: &mut Vec<(usize, Unmade)>,
    ) -> Range<usize> {
        let all = self.places.len();
        if all == 0 {
            return 0..0;
        }
        match self.render(context, shots, sent, 0..all) {
            Ok(end) => return 0..end,
            // It fails because of the first event, or because there are too many for a header.
            Err(Unmade::Never(_)) => {}
            Err(why) => {
                unmade.extend(self.places.iter().map(|at| (*at, why.clone())));
                return all..all;
            }
        }
        for from in 0..all {
            match self.render(context, shots, sent, from..from + 1) {
                // With all that follow it was tried above.
                Ok(end) if from == 0 => return from..end,
                Ok(alone) => {
                    let end = match self.render(context, shots, sent, from..all) {
                        Ok(end) => end,
                        Err(_) => self.render(context, shots, sent, from..alone).unwrap_or(from),
                    };
                    return from..end;
                }
                Err(why) => unmade.push((self.places[from], why)),
            }
        }
        all..all
    }

    /// Makes one request of the bodies of `range`; returns the place behind the last that fits.
    fn render(
        &self,
        context: &Context,
        shots: &[Shot<'_>],
        sent: &mut Sent,
        range: Range<usize>,
    ) -> Result<usize, Unmade> {
        let first = &shots[self.places[range.start]];
        (sent.request, sent.keys) = (None, Vec::new());
        guarded(|| {
            let around = input(context, first, sent.time);
            let bodies = &self.bodies[range.clone()];
            let (rendered, count) =
                contract::render_together(&first.lane.contract, &around, bodies)?;
            finish(context, first, &rendered, sent).map(|()| range.start + count)
        })
    }
}

fn panicked() -> Unmade {
    Unmade::Never("the attempt panicked".to_owned())
}

/// Does something of which a panic is the delivery's fault, not the node's.
fn guarded<T>(work: impl FnOnce() -> Result<T, RenderError>) -> Result<T, Unmade> {
    match std::panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(Unmade::from),
        Err(_) => Err(panicked()),
    }
}

/// The record of another delivery of the same request. The answer may echo any of its events, so
/// its body is kept once: an event that is erased leaves it nowhere else.
fn of(shot: &Shot<'_>, first: &AttemptRecord, decision: Decision) -> Arc<AttemptRecord> {
    Arc::new(AttemptRecord {
        key: shot.key,
        tenant: shot.event.tenant.clone(),
        event_type: shot.event.event_type.clone(),
        environment: shot.event.environment,
        configuration_revision: shot.revision,
        error_class: decision.error_class,
        response: first.response.as_ref().map(|head| ResponseHead {
            headers: head.headers.clone(),
            body: Vec::new(),
            truncated: head.truncated || !head.body.is_empty(),
        }),
        ..first.without_response()
    })
}
