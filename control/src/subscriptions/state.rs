//! Pause, Resume, Disable, Approve, Reject.

use super::{
    Caller, Control, How, Kind, Plan, Reason, Refusal, Resource, Rule, StateChange, Stored,
    Subscription, SubscriptionName, SubscriptionState, Violations, limits, parse, to_wire,
    until_settled, v1,
};

/// A move of a subscription's state.
#[derive(Clone, Copy, Debug)]
enum Move<'a> {
    Pause,
    Resume,
    Disable(&'a str),
    Approve(&'a str),
    Reject(&'a str),
}

impl Move<'_> {
    /// The state it leads to from another one; none where it may not be made.
    fn target(self, from: SubscriptionState) -> Option<SubscriptionState> {
        use SubscriptionState::{Active, Disabled, Paused, PendingApproval, Rejected};
        match (self, from) {
            (Move::Approve(_), PendingApproval | Rejected) => Some(Active),
            (Move::Approve(_), approved @ (Active | Paused | Disabled)) => Some(approved),
            (Move::Reject(_), PendingApproval | Rejected) => Some(Rejected),
            (Move::Reject(_), Active | Paused | Disabled)
            | (_, PendingApproval | Rejected)
            | (Move::Pause, Disabled) => None,
            (Move::Pause, Active | Paused) => Some(Paused),
            (Move::Resume, Active | Paused | Disabled) => Some(Active),
            (Move::Disable(_), Active | Paused | Disabled) => Some(Disabled),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Move::Pause => "paused",
            Move::Resume => "resumed",
            Move::Disable(_) => "disabled",
            Move::Approve(_) => "approved",
            Move::Reject(_) => "rejected",
        }
    }

    /// Why the subscription is in its new state.
    fn reason(&self) -> &str {
        match self {
            Move::Pause | Move::Resume | Move::Approve(_) => "",
            Move::Disable(reason) | Move::Reject(reason) => reason,
        }
    }

    /// What is kept with the change.
    fn note(&self) -> &str {
        match self {
            Move::Pause | Move::Resume => "",
            Move::Disable(note) | Move::Approve(note) | Move::Reject(note) => note,
        }
    }

    /// Whether it changes nothing.
    fn is_done(&self, it: &Subscription) -> bool {
        match self {
            Move::Approve(_) => true,
            Move::Pause | Move::Resume | Move::Disable(_) | Move::Reject(_) => {
                it.state_reason == self.reason()
            }
        }
    }
}

/// A reason that must be given.
fn reason(given: &str, wrong: &mut Violations) -> Option<String> {
    if given.is_empty() {
        wrong.add("reason", Rule::Required, "must be set");
    }
    wrong.check("reason", parse::text(given, limits::NOTE_LEN))
}

macro_rules! moved {
    ($answer:ident, $moved:expr) => {{
        let (subscription, revision) = $moved;
        Ok(v1::$answer { subscription: Some(subscription), revision })
    }};
}

impl Control {
    pub(crate) async fn pause_subscription(
        &self,
        request: v1::PauseSubscriptionRequest,
        caller: &Caller,
    ) -> Result<v1::PauseSubscriptionResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", SubscriptionName::parse(&request.name));
        let name = parse::done(wrong, name)?;
        moved!(
            PauseSubscriptionResponse,
            self.move_state(&name, Move::Pause, request.validate_only, caller).await?
        )
    }

    pub(crate) async fn resume_subscription(
        &self,
        request: v1::ResumeSubscriptionRequest,
        caller: &Caller,
    ) -> Result<v1::ResumeSubscriptionResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", SubscriptionName::parse(&request.name));
        let name = parse::done(wrong, name)?;
        moved!(
            ResumeSubscriptionResponse,
            self.move_state(&name, Move::Resume, request.validate_only, caller).await?
        )
    }

    pub(crate) async fn disable_subscription(
        &self,
        request: v1::DisableSubscriptionRequest,
        caller: &Caller,
    ) -> Result<v1::DisableSubscriptionResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", SubscriptionName::parse(&request.name));
        let reason = reason(&request.reason, &mut wrong);
        let (name, reason) = parse::done(wrong, name.zip(reason))?;
        moved!(
            DisableSubscriptionResponse,
            self.move_state(&name, Move::Disable(&reason), request.validate_only, caller).await?
        )
    }

    pub(crate) async fn approve_subscription(
        &self,
        request: v1::ApproveSubscriptionRequest,
        caller: &Caller,
    ) -> Result<v1::ApproveSubscriptionResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", SubscriptionName::parse(&request.name));
        let note = wrong.check("note", parse::text(&request.note, limits::NOTE_LEN));
        let (name, note) = parse::done(wrong, name.zip(note))?;
        moved!(
            ApproveSubscriptionResponse,
            self.move_state(&name, Move::Approve(&note), request.validate_only, caller).await?
        )
    }

    pub(crate) async fn reject_subscription(
        &self,
        request: v1::RejectSubscriptionRequest,
        caller: &Caller,
    ) -> Result<v1::RejectSubscriptionResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", SubscriptionName::parse(&request.name));
        let reason = reason(&request.reason, &mut wrong);
        let (name, reason) = parse::done(wrong, name.zip(reason))?;
        moved!(
            RejectSubscriptionResponse,
            self.move_state(&name, Move::Reject(&reason), request.validate_only, caller).await?
        )
    }

    async fn move_state(
        &self,
        name: &SubscriptionName,
        to: Move<'_>,
        validate_only: bool,
        caller: &Caller,
    ) -> Result<(v1::Subscription, i64), Refusal> {
        until_settled(|| self.try_move_state(name, to, validate_only, caller)).await
    }

    async fn try_move_state(
        &self,
        name: &SubscriptionName,
        to: Move<'_>,
        validate_only: bool,
        caller: &Caller,
    ) -> Result<Option<(v1::Subscription, i64)>, Refusal> {
        let text = name.to_string();
        let stored = self.fetch::<Subscription>(&text).await?;
        let live = self.live_secrets(&name.clone().into()).await?;
        let (from, read) = (stored.value.state, stored.revision);
        let Some(target) = to.target(from) else {
            let message = format!("{text} is {from} and cannot be {}", to.word());
            let resource = Some((Subscription::WORD, text));
            return Err(Refusal { resource, ..Refusal::new(Reason::StateConflict, message) });
        };
        if from == target && to.is_done(&stored.value) {
            return Ok(Some((to_wire(&stored, live), if validate_only { 0 } else { read })));
        }
        let now = self.clock.now();
        let mut subscription = stored.value;
        to.reason().clone_into(&mut subscription.state_reason);
        subscription.common.update_time = now;
        if from != target {
            subscription.state = target;
            let (actor, note) = (caller.actor().to_string(), to.note().to_owned());
            subscription.state_change = Some(StateChange { time: now, actor, note });
        }
        let plan = Plan::new().put(&Resource::Subscription(subscription.clone()), read);
        let answer = v1::UpdateSubscriptionResponse {
            subscription: Some(to_wire(&Stored::new(subscription), live)),
            ..Default::default()
        };
        let answer = self.commit(plan, answer, &How::plain(validate_only)).await?;
        Ok(answer.and_then(|it| Some((it.subscription?, it.revision))))
    }
}
