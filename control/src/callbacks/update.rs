//! UpdateCallback, PauseCallback, ResumeCallback.

use super::{
    Callback, CallbackName, CallbackState, Caller, Control, Edit, FIELD, How, Kind, Mask, Plan,
    Refusal, Resource, Rule, StateChange, Stored, Violations, check_contract, etag, parse, to_wire,
    until_settled, v1, whole, with_fields,
};
use crate::receiver::Receiver;

/// An update on its way.
struct Update<'a> {
    name: &'a CallbackName,
    given: &'a v1::Callback,
    edit: &'a Edit,
    request: &'a v1::UpdateCallbackRequest,
}

impl Control {
    pub(crate) async fn update_callback(
        &self,
        request: v1::UpdateCallbackRequest,
    ) -> Result<v1::UpdateCallbackResponse, Refusal> {
        let mut wrong = Violations::new();
        let given = parse::required(FIELD, request.callback.as_ref(), &mut wrong);
        let given = parse::done(wrong, given)?;
        let mut wrong = Violations::new();
        let name = wrong.check("callback.name", CallbackName::parse(&given.name));
        let mask = with_fields(given, |fields| {
            Mask::parse(request.update_mask.as_ref(), fields, &mut wrong)
        });
        let edit = Edit::parse(given, &mask, &mut wrong);
        self.callback_also_wrong(Some(&edit), name.as_ref(), &mut wrong).await?;
        let name = parse::done(wrong, name)?;
        // What may change how many children the tenant has takes its turn.
        let _turn = match request.allow_missing || edit.contract.is_some() {
            true => Some(self.turns.take(&name.tenant).await),
            false => None,
        };
        let update = Update { name: &name, given, edit: &edit, request: &request };
        until_settled(|| self.try_update_callback(&update)).await
    }

    async fn try_update_callback(
        &self,
        update: &Update<'_>,
    ) -> Result<Option<v1::UpdateCallbackResponse>, Refusal> {
        let (text, request) = (update.name.to_string(), update.request);
        match self.find::<Callback>(&text).await? {
            Some(stored) => {
                etag::check(&update.given.etag, stored.revision, Callback::WORD, &text)?;
                self.try_change_callback(update, stored).await
            }
            None if request.allow_missing => {
                etag::check(&update.given.etag, 0, Callback::WORD, &text)?;
                let family = self.family(&update.name.tenant).await?;
                let mut wrong = Violations::new();
                let all = whole(update.given, &mut wrong);
                self.callback_also_wrong(Some(&all), None, &mut wrong).await?;
                wrong.finish()?;
                let birth = self.callback_birth(update.name, &all, &family).await?;
                let answer = answer(&birth.callback, birth.secrets);
                self.commit(birth.plan, answer, &How::plain(request.validate_only)).await
            }
            None => Err(Refusal::not_found(Callback::WORD, text)),
        }
    }

    async fn try_change_callback(
        &self,
        update: &Update<'_>,
        stored: Stored<Callback>,
    ) -> Result<Option<v1::UpdateCallbackResponse>, Refusal> {
        let (edit, before) = (update.edit, &stored.value);
        if edit.environment.is_some_and(|wanted| wanted != before.environment) {
            let words = format!("is {} for good", before.environment);
            return Err(Refusal::field("callback.environment", Rule::Immutable, words));
        }
        let leans = self.lean_on([&before.contract].into_iter().chain(&edit.contract)).await?;
        let mut now = before.clone();
        edit.apply(&mut now);
        let moved = now.contract != before.contract;
        let contract = leans.get(&now.contract)?;
        if let Some(auth) = &edit.auth {
            (now.auth, _) = self.sealed_auth(FIELD, auth, &before.auth, update.name)?;
        }
        let headers = edit.headers.as_deref();
        now.headers = self.sealed_headers(FIELD, headers, &before.headers, update.name)?;
        let mut wrong = Violations::new();
        let affected = Receiver::from(&now).affected_by(&edit.receiver(), moved);
        let touched = moved || affected.url.is_some() || affected.headers.is_some();
        affected.check(FIELD, contract, &self.contracts.policy(contract), &mut wrong);
        if moved {
            check_contract(contract, &mut wrong);
        }
        wrong.finish()?;
        now.common.update_time = self.clock.now();
        let mut plan = Plan::new().put(&Resource::Callback(now.clone()), stored.revision);
        let signer = update.name.clone().into();
        let live = if moved {
            let live;
            (plan, live) = self.move_keys("callback.contract", &signer, contract, plan).await?;
            live
        } else {
            self.live_secrets(&signer).await?
        };
        if touched {
            plan = leans.change(plan, [(&before.contract, -1), (&now.contract, 1)]);
        }
        let how = How::plain(update.request.validate_only);
        self.commit(plan, answer(&Stored::new(now), live), &how).await
    }

    pub(crate) async fn pause_callback(
        &self,
        request: v1::PauseCallbackRequest,
        caller: &Caller,
    ) -> Result<v1::PauseCallbackResponse, Refusal> {
        let (to, only) = (CallbackState::Paused, request.validate_only);
        let (callback, revision) = self.move_callback(&request.name, to, only, caller).await?;
        Ok(v1::PauseCallbackResponse { callback, revision })
    }

    pub(crate) async fn resume_callback(
        &self,
        request: v1::ResumeCallbackRequest,
        caller: &Caller,
    ) -> Result<v1::ResumeCallbackResponse, Refusal> {
        let (to, only) = (CallbackState::Active, request.validate_only);
        let (callback, revision) = self.move_callback(&request.name, to, only, caller).await?;
        Ok(v1::ResumeCallbackResponse { callback, revision })
    }

    async fn move_callback(
        &self,
        name: &str,
        to: CallbackState,
        validate_only: bool,
        caller: &Caller,
    ) -> Result<(Option<v1::Callback>, i64), Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", CallbackName::parse(name));
        let name = parse::done(wrong, name)?;
        until_settled(|| self.try_move_callback(&name, to, validate_only, caller)).await
    }

    async fn try_move_callback(
        &self,
        name: &CallbackName,
        to: CallbackState,
        validate_only: bool,
        caller: &Caller,
    ) -> Result<Option<(Option<v1::Callback>, i64)>, Refusal> {
        let stored = self.fetch::<Callback>(&name.to_string()).await?;
        let live = self.live_secrets(&name.clone().into()).await?;
        let read = stored.revision;
        if stored.value.state == to {
            let shown = Some(to_wire(&stored, live));
            return Ok(Some((shown, if validate_only { 0 } else { read })));
        }
        let mut callback = stored.value;
        let (time, actor) = (self.clock.now(), caller.actor().to_string());
        callback.state = to;
        callback.state_change = Some(StateChange { time, actor, note: String::new() });
        callback.common.update_time = time;
        let plan = Plan::new().put(&Resource::Callback(callback.clone()), read);
        let answer = answer(&Stored::new(callback), live);
        let answer = self.commit(plan, answer, &How::plain(validate_only)).await?;
        Ok(answer.map(|it| (it.callback, it.revision)))
    }
}

fn answer(callback: &Stored<Callback>, secrets: u32) -> v1::UpdateCallbackResponse {
    let callback = Some(to_wire(callback, secrets));
    v1::UpdateCallbackResponse { callback, ..Default::default() }
}
