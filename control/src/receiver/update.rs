//! Updates.
//!
//! A receiver that moves to another contract takes its keys along: they must have the form that the
//! new one wants, and it gets its first key where the new one requires one.

use pregon_core::error::{Refusal, Violations};
use pregon_core::model::Tenant;
use pregon_rpc::caller::Caller;
use prost_types::FieldMask;

use super::create::{With, check_contract, check_pool, may_choose_pool};
use super::edit::Edit;
use super::kind::{Receiver, Shows, to_wire};
use crate::catalog::Stored;
use crate::commit::{How, Plan, until_settled};
use crate::{Control, etag, parse};

/// What a request to change a receiver says, by the names of its fields, and who makes it.
pub(crate) struct Update<'a, W> {
    pub given: Option<&'a W>,
    pub mask: Option<&'a FieldMask>,
    pub allow_missing: bool,
    pub validate_only: bool,
    pub caller: &'a Caller,
}

impl Control {
    /// Changes a receiver.
    pub(crate) async fn update_receiver<R: Receiver, A: Shows<R>>(
        &self,
        update: Update<'_, R::Wire>,
    ) -> Result<A, Refusal> {
        let given = parse::needed(R::WORD, update.given)?;
        let mut wrong = Violations::new();
        let name = wrong.check(format!("{}.name", R::WORD), R::parse_name(R::given(given).name));
        let edit = Edit::parse::<R>(given, update.mask, &mut wrong);
        self.also_wrong::<R>(Some(&edit), name.as_ref(), &mut wrong).await?;
        let name = parse::done(wrong, name)?;
        // What may change how many children the tenant has takes its turn.
        let _turn = match update.allow_missing || edit.contract.is_some() {
            true => Some(self.turns.take(R::tenant(&name)).await),
            false => None,
        };
        until_settled(|| self.try_update(&name, given, &edit, &update)).await
    }

    async fn try_update<R: Receiver, A: Shows<R>>(
        &self,
        name: &R::Name,
        given: &R::Wire,
        edit: &Edit<R::Own>,
        update: &Update<'_, R::Wire>,
    ) -> Result<Option<A>, Refusal> {
        let (text, etag) = (name.to_string(), R::given(given).etag);
        match self.find::<R>(&text).await? {
            Some(stored) => {
                etag::check(etag, stored.revision, R::WORD, &text)?;
                self.try_change(stored, name, edit, update).await
            }
            None if update.allow_missing => {
                etag::check(etag, 0, R::WORD, &text)?;
                let mut wrong = Violations::new();
                let all = Edit::whole::<R>(given, &mut wrong);
                self.also_wrong::<R>(Some(&all), None, &mut wrong).await?;
                wrong.finish()?;
                if R::pool_of(&all.own).is_some() {
                    may_choose_pool::<R>(update.caller)?;
                }
                self.insert_receiver(
                    name,
                    &all,
                    &With::default(),
                    &How::plain(update.validate_only),
                )
                .await
            }
            None => Err(Refusal::not_found(R::WORD, text)),
        }
    }

    async fn try_change<R: Receiver, A: Shows<R>>(
        &self,
        stored: Stored<R>,
        name: &R::Name,
        edit: &Edit<R::Own>,
        update: &Update<'_, R::Wire>,
    ) -> Result<Option<A>, Refusal> {
        let before = &stored.value;
        let mut now = self.edited(before, edit, name)?;
        let leans = self.lean_on([before.contract(), now.contract()]).await?;
        let contract = leans.get(now.contract())?;
        let moved = now.contract() != before.contract();
        let mut wrong = Violations::new();
        let affected = now.endpoint().affected_by(&edit.endpoint(), moved);
        let touched = moved || affected.url.is_some() || affected.headers.is_some();
        let policy = self.contracts.policy(contract);
        affected.check(R::WORD, contract, &policy, &mut wrong);
        if affected.url.is_some() || affected.identity.is_some() {
            now.endpoint().check_tls(R::WORD, &mut wrong);
        }
        if (affected.url.is_some() || affected.identity.is_some())
            && let Some(tenant) = self.find::<Tenant>(&R::tenant(name).name()).await?
        {
            affected.check_rules(R::WORD, &tenant.value.egress_rules, &policy, &mut wrong);
        }
        if moved {
            check_contract::<R>(contract, &mut wrong);
        }
        if moved || edit.endpoint().url.is_some() {
            now.check_own(contract, &mut wrong);
        }
        if now.pool() != before.pool() {
            may_choose_pool::<R>(update.caller)?;
            check_pool::<R>(now.pool(), self.contracts.pools(), &mut wrong);
        }
        wrong.finish()?;
        let time = self.clock.now();
        now.parts().common.update_time = time;
        now.on_update(before, contract, update.caller, time);
        let plan = Plan::new().put(&now.clone().wrap(), stored.revision);
        let signer = name.clone().into();
        let (mut plan, live) = match moved {
            true => {
                let field = format!("{}.contract", R::WORD);
                self.move_keys(&field, &signer, contract, plan).await?
            }
            false => (plan, self.live_secrets(&signer).await?),
        };
        if touched {
            plan = leans.change(plan, [(before.contract(), -1), (now.contract(), 1)]);
        }
        let how = How::plain(update.validate_only);
        let hints = self.hints(now.patterns()).await?;
        self.commit(plan, A::of(to_wire(&Stored::new(now), live), hints), &how).await
    }
}
