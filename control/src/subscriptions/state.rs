//! Pause, Resume, Disable.

use super::{
    Caller, Control, How, Kind, Plan, Reason, Refusal, Resource, Rule, StateChange, Stored,
    Subscription, SubscriptionName, SubscriptionState, Violations, parse, to_wire, until_settled,
    v1,
};

/// Longest reason of a Disable, in characters: a few sentences.
const REASON_LEN: usize = 1024;

/// A move of a subscription's state.
#[derive(Clone, Copy, Debug)]
enum Move<'a> {
    Pause,
    Resume,
    Disable(&'a str),
}

impl Move<'_> {
    /// The state it leads to from another one; none where it may not be made.
    fn target(self, from: SubscriptionState) -> Option<SubscriptionState> {
        use SubscriptionState::{Active, Disabled, Paused, PendingApproval, Rejected};
        match (self, from) {
            (_, PendingApproval | Rejected) | (Move::Pause, Disabled) => None,
            (Move::Pause, Active | Paused) => Some(Paused),
            (Move::Resume, Active | Paused | Disabled) => Some(Active),
            (Move::Disable(_), Active | Paused | Disabled) => Some(Disabled),
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Move::Pause => "paused",
            Move::Resume => "resumed",
            Move::Disable(_) => "disabled",
        }
    }

    fn note(&self) -> &str {
        match self {
            Move::Pause | Move::Resume => "",
            Move::Disable(note) => note,
        }
    }
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
        let reason = wrong.check("reason", parse::text(&request.reason, REASON_LEN));
        if request.reason.is_empty() {
            wrong.add("reason", Rule::Required, "must be set");
        }
        let (name, reason) = parse::done(wrong, name.zip(reason))?;
        moved!(
            DisableSubscriptionResponse,
            self.move_state(&name, Move::Disable(&reason), request.validate_only, caller).await?
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
        let live = self.live_secrets(name).await?;
        let (from, read) = (stored.value.state, stored.revision);
        let Some(target) = to.target(from) else {
            let message = format!("{text} is {from} and cannot be {}", to.reason());
            let resource = Some((Subscription::WORD, text));
            return Err(Refusal { resource, ..Refusal::new(Reason::StateConflict, message) });
        };
        if from == target && stored.value.state_reason == to.note() {
            return Ok(Some((to_wire(&stored, live), if validate_only { 0 } else { read })));
        }
        let now = self.clock.now();
        let mut subscription = stored.value;
        to.note().clone_into(&mut subscription.state_reason);
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
