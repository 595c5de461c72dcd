//! Creations, and what updates that may create have in common with them.

use pregon_core::contract::Contract;
use pregon_core::error::{Reason, Refusal, Rule, Violations};
use pregon_core::event::Environment;
use pregon_core::id::{ContractId, LaneNo};
use pregon_core::model::{Resource, Tenant};
use pregon_rpc::caller::Caller;

use super::edit::Edit;
use super::kind::{Receiver, Shows, to_wire};
use crate::catalog::{Kind as _, Stored};
use crate::commit::{How, Plan, until_settled};
use crate::repeat::Canonical;
use crate::{Control, parse};

/// What a request to create a receiver says, by the names of its fields.
pub(crate) struct Creation<'a, W> {
    pub method: &'static str,
    pub parent: &'a str,
    pub id: &'a str,
    pub given: Option<&'a W>,
    pub validate_only: bool,
    pub request_id: &'a str,
}

impl Control {
    /// Creates a receiver.
    pub(crate) async fn create_receiver<R: Receiver, A: Shows<R>>(
        &self,
        request: &impl Canonical,
        creation: Creation<'_, R::Wire>,
        caller: &Caller,
    ) -> Result<A, Refusal> {
        let Creation { method, parent, id, given, validate_only, request_id } = creation;
        let mut wrong = Violations::new();
        let tenant = wrong.check("parent", parse::tenant_name(parent));
        let assigned = id.is_empty().then(|| self.assign(R::ID_PREFIX));
        let id = assigned.as_deref().unwrap_or(id);
        let name = R::new_name(tenant, id, &mut wrong);
        let how = How::parse(caller, method, request, (validate_only, request_id), &mut wrong);
        let given = parse::required(R::WORD, given, &mut wrong);
        let edit = given.map(|given| Edit::whole::<R>(given, &mut wrong));
        self.also_wrong::<R>(edit.as_ref(), None, &mut wrong).await?;
        let (name, edit) = parse::done(wrong, name.zip(edit))?;
        let _turn = self.turns.take(R::tenant(&name)).await;
        let mut answer: A = until_settled(|| self.try_create(&name, &edit, &how)).await?;
        if validate_only && assigned.is_some() {
            answer.clear_name(); // the real one will get another id
        }
        Ok(answer)
    }

    /// Where something is wrong already, notes what else the contract finds: one that exists is
    /// the one asked for, else that of the receiver as it is, else the default.
    pub(super) async fn also_wrong<R: Receiver>(
        &self,
        edit: Option<&Edit<R::Own>>,
        name: Option<&R::Name>,
        wrong: &mut Violations,
    ) -> Result<(), Refusal> {
        let Some(edit) = edit.filter(|_| !wrong.is_empty()) else { return Ok(()) };
        let stored = match (&edit.contract, name) {
            (None, Some(name)) => self.find::<R>(&name.to_string()).await?,
            (Some(_), _) | (None, None) => None,
        };
        let stored = stored.map(|it| it.value.contract().clone());
        let id = edit.contract.clone().or(stored).unwrap_or_else(ContractId::standard_webhooks);
        if let Some(contract) = self.find_contract(&id).await? {
            edit.endpoint().check(R::WORD, &contract, &self.contracts.policy(&contract), wrong);
            check_contract::<R>(&contract, wrong);
        }
        Ok(())
    }

    async fn try_create<R: Receiver, A: Shows<R>>(
        &self,
        name: &R::Name,
        edit: &Edit<R::Own>,
        how: &How,
    ) -> Result<Option<A>, Refusal> {
        if let Some(answer) = self.recall(how).await? {
            return Ok(Some(answer));
        }
        if self.find::<R>(&name.to_string()).await?.is_some() {
            return Err(Refusal::exists(R::WORD, name.to_string()));
        }
        self.insert_receiver(name, edit, how).await
    }

    /// Writes a receiver that is not there yet, with its first key.
    pub(super) async fn insert_receiver<R: Receiver, A: Shows<R>>(
        &self,
        name: &R::Name,
        edit: &Edit<R::Own>,
        how: &How,
    ) -> Result<Option<A>, Refusal> {
        let family = self.family(R::tenant(name)).await?;
        let contract = edit.contract.clone().unwrap_or_else(ContractId::standard_webhooks);
        let leans = self.lean_on([&contract]).await?;
        let contract = leans.get(&contract)?;
        let (mut children, most) = (family.children, R::most(&family.tenant.value.limits));
        let count = R::count(&mut children);
        if *count >= most {
            let tenant = R::tenant(name).name();
            let text = format!("{tenant} may have {most} {}", R::COLLECTION);
            return Err(Refusal::new(Reason::QuotaExceeded, text).about(Tenant::WORD, tenant));
        }
        *count += 1;
        let lane = match R::LANE && !how.validate_only {
            true => self.store.config.next_lane().await?,
            false => LaneNo::EVENTS, // shown to nobody, and no number is used up
        };
        let receiver: R = self.new_receiver(name, edit, contract, lane)?;
        let mut plan = Plan::new().put(&receiver.clone().wrap(), 0);
        let secret = contract.secret().required;
        if secret {
            let signer = name.clone().into();
            plan = plan.put(&Resource::Secret(self.first_secret(&signer, contract)?), 0);
        }
        let plan = receiver.claim(family.change(plan, children));
        let plan = leans.change(plan, [(contract.id(), 1)]);
        let hints = self.hints(receiver.patterns()).await?;
        let shown = to_wire(&Stored::new(receiver), u32::from(secret));
        self.commit(plan, A::of(shown, hints), how).await
    }

    fn new_receiver<R: Receiver>(
        &self,
        name: &R::Name,
        edit: &Edit<R::Own>,
        contract: &Contract,
        lane: LaneNo,
    ) -> Result<R, Refusal> {
        let mut blank = R::blank(name, contract, lane, self.clock.now());
        *blank.parts().environment = edit.environment.unwrap_or(Environment::Live);
        let receiver = self.edited(&blank, edit, name)?;
        let (mut wrong, policy) = (Violations::new(), self.contracts.policy(contract));
        receiver.endpoint().check(R::WORD, contract, &policy, &mut wrong);
        check_contract::<R>(contract, &mut wrong);
        receiver.check_own(contract, &mut wrong);
        wrong.finish()?;
        Ok(receiver)
    }
}

/// Notes that a contract is none for this kind of receiver.
pub(super) fn check_contract<R: Receiver>(contract: &Contract, wrong: &mut Violations) {
    if let Some(text) = R::unfit(contract) {
        let text = format!("{} {text}", contract.id().name());
        wrong.add(format!("{}.contract", R::WORD), Rule::OutOfRange, text);
    }
}
