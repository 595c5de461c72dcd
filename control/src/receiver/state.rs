//! The moves of a receiver's state, and who made them, when and why.

use pregon_core::error::{Reason, Refusal, Rule, Violations};
use pregon_core::limits;
use pregon_core::model::StateChange;
use pregon_rpc::caller::Caller;

use super::kind::{Move, Receiver, Shows, to_wire};
use crate::catalog::Stored;
use crate::commit::{How, Plan, until_settled};
use crate::{Control, parse};

impl Move {
    fn word(self) -> &'static str {
        match self {
            Move::Pause => "paused",
            Move::Resume => "resumed",
            Move::Open => "opened",
            Move::Disable => "disabled",
            Move::Approve => "approved",
            Move::Reject => "rejected",
        }
    }

    /// Whether the caller must say why, and the receiver shows it for as long as it stays so.
    fn has_reason(self) -> bool {
        match self {
            Move::Disable | Move::Reject => true,
            Move::Pause | Move::Resume | Move::Open | Move::Approve => false,
        }
    }

    /// Parses what the caller says of the move.
    fn parse_note(self, given: &str, wrong: &mut Violations) -> Option<String> {
        let field = if self.has_reason() { "reason" } else { "note" };
        if self.has_reason() && given.is_empty() {
            wrong.add(field, Rule::Required, "must be set");
        }
        wrong.check(field, parse::text(given, limits::NOTE_LEN))
    }
}

/// What a request to move a receiver's state says, and who makes it.
#[derive(Clone, Copy)]
pub(crate) struct Moving<'a> {
    pub name: &'a str,
    pub to: Move,
    /// A note, or a reason.
    pub note: &'a str,
    pub validate_only: bool,
    pub caller: &'a Caller,
}

impl Control {
    /// Moves a receiver's state.
    pub(crate) async fn move_receiver<R: Receiver, A: Shows<R>>(
        &self,
        moving: Moving<'_>,
    ) -> Result<A, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", R::parse_name(moving.name));
        let note = moving.to.parse_note(moving.note, &mut wrong);
        let (name, note) = parse::done(wrong, name.zip(note))?;
        until_settled(|| self.try_move::<R, A>(&name, Moving { note: &note, ..moving })).await
    }

    async fn try_move<R: Receiver, A: Shows<R>>(
        &self,
        name: &R::Name,
        Moving { to, note, validate_only, caller, .. }: Moving<'_>,
    ) -> Result<Option<A>, Refusal> {
        let text = name.to_string();
        let stored = self.fetch::<R>(&text).await?;
        let live = self.live_secrets(&name.clone().into()).await?;
        let (from, read) = (stored.value.state(), stored.revision);
        let Some(target) = stored.value.target(to) else {
            let message = format!("{text} is {from} and cannot be {}", to.word());
            return Err(Refusal::new(Reason::StateConflict, message).about(R::WORD, text));
        };
        let reason = if to.has_reason() { note } else { "" };
        let same = to == Move::Approve || stored.value.state_reason() == reason;
        if from == target && same && to != Move::Open {
            let mut answer = A::of(to_wire(&stored, live), Vec::new());
            if !validate_only {
                answer.stamp(read);
            }
            return Ok(Some(answer));
        }
        let (mut receiver, time) = (stored.value, self.clock.now());
        receiver.put_state(target, reason, time);
        if to == Move::Open {
            receiver.open(time);
        }
        let parts = receiver.parts();
        parts.common.update_time = time;
        if from != target {
            let (actor, note) = (caller.actor().to_string(), note.to_owned());
            *parts.state_change = Some(StateChange { time, actor, note });
        }
        let plan = Plan::new().put(&receiver.clone().wrap(), read);
        let answer = A::of(to_wire(&Stored::new(receiver), live), Vec::new());
        self.commit(plan, answer, &How::plain(validate_only)).await
    }
}
