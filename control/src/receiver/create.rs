//! Creations, and what updates that may create have in common with them.

use pregon_core::contract::Contract;
use pregon_core::error::{Reason, Refusal, Rule, Violations};
use pregon_core::event::Environment;
use pregon_core::id::{ContractId, LaneNo, PoolName, SignerName};
use pregon_core::model::{Resource, Secret, Tenant};
use pregon_core::pool::Pools;
use pregon_proto::v1;
use pregon_rpc::caller::{Caller, Role};

use super::edit::Edit;
use super::kind::{Receiver, Shows, to_wire};
use crate::catalog::{Kind as _, Stored};
use crate::commit::{How, Plan, until_settled};
use crate::repeat::Canonical;
use crate::secrets::Draft;
use crate::{Control, parse};

/// What a request to create a receiver says, by the names of its fields.
pub(crate) struct Creation<'a, W> {
    pub method: &'static str,
    pub parent: &'a str,
    pub id: &'a str,
    pub given: Option<&'a W>,
    /// Its secrets; none: a first one, where the contract requires one.
    pub secrets: &'a [v1::NewSecret],
    pub validate_only: bool,
    pub request_id: &'a str,
}

/// What a receiver is created with beside its fields.
#[derive(Default)]
pub(super) struct With {
    /// Its secrets; none: a first one, where the contract requires one.
    pub secrets: Vec<Secret>,
    /// It is paused from the start.
    pub paused: bool,
}

impl Control {
    /// Creates a receiver.
    pub(crate) async fn create_receiver<R: Receiver, A: Shows<R>>(
        &self,
        request: &impl Canonical,
        creation: Creation<'_, R::Wire>,
        caller: &Caller,
    ) -> Result<A, Refusal> {
        let Creation { method, parent, id, given, secrets, validate_only, request_id } = creation;
        let mut wrong = Violations::new();
        let tenant = wrong.check("parent", parse::tenant_name(parent));
        let assigned = id.is_empty().then(|| self.assign(R::ID_PREFIX));
        let id = assigned.as_deref().unwrap_or(id);
        let name = R::new_name(tenant, id, &mut wrong);
        let how = How::parse(caller, method, request, (validate_only, request_id), &mut wrong);
        let given = parse::required(R::WORD, given, &mut wrong);
        let edit = given.map(|given| Edit::whole::<R>(given, &mut wrong));
        let paused = given.and_then(|given| R::created_paused(given, &mut wrong));
        let mut found = None;
        if !secrets.is_empty()
            && let Some(edit) = &edit
        {
            found = self.find_contract(&under(edit)).await?;
        }
        let drafts = match &found {
            Some(contract) => Draft::parse_all(secrets, contract, self.clock.now(), &mut wrong),
            None => Vec::new(), // there are none, or the contract will be missed
        };
        self.also_wrong::<R>(edit.as_ref(), None, &mut wrong).await?;
        let (name, (edit, paused)) = parse::done(wrong, name.zip(edit.zip(paused)))?;
        if R::pool_of(&edit.own).is_some() {
            may_choose_pool::<R>(caller)?;
        }
        let secrets = match &found {
            Some(contract) => self.new_secrets(&name.clone().into(), &drafts, contract).await?,
            None => Vec::new(),
        };
        let with = With { secrets, paused };
        let _turn = self.turns.take(R::tenant(&name)).await;
        let mut answer: A = until_settled(|| self.try_create(&name, &edit, &with, &how)).await?;
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
        check_pool::<R>(R::pool_of(&edit.own), self.contracts.pools(), wrong);
        let stored = match (&edit.contract, name) {
            (None, Some(name)) => self.find::<R>(&name.to_string()).await?,
            (Some(_), _) | (None, None) => None,
        };
        let stored = stored.map(|it| it.value.contract().clone());
        let id = edit.contract.clone().or(stored).unwrap_or_else(ContractId::standard_webhooks);
        if let Some(contract) = self.find_contract(&id).await? {
            edit.endpoint().check(R::WORD, &contract, &self.contracts.policy(&contract), wrong);
            edit.endpoint().check_tls(R::WORD, wrong);
            check_contract::<R>(&contract, wrong);
        }
        Ok(())
    }

    async fn try_create<R: Receiver, A: Shows<R>>(
        &self,
        name: &R::Name,
        edit: &Edit<R::Own>,
        with: &With,
        how: &How,
    ) -> Result<Option<A>, Refusal> {
        if let Some(answer) = self.recall(how).await? {
            return Ok(Some(answer));
        }
        if self.find::<R>(&name.to_string()).await?.is_some() {
            return Err(Refusal::exists(R::WORD, name.to_string()));
        }
        self.insert_receiver(name, edit, with, how).await
    }

    /// Writes a receiver that is not there yet, with its keys.
    pub(super) async fn insert_receiver<R: Receiver, A: Shows<R>>(
        &self,
        name: &R::Name,
        edit: &Edit<R::Own>,
        with: &With,
        how: &How,
    ) -> Result<Option<A>, Refusal> {
        let family = self.family(R::tenant(name)).await?;
        let contract = under(edit);
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
        let mut receiver: R =
            self.new_receiver(name, edit, &family.tenant.value, (contract, lane))?;
        if with.paused {
            receiver.pause_from_the_start(contract, self.clock.now())?;
        }
        let mut plan = Plan::new().put(&receiver.clone().wrap(), 0);
        let secrets = self.first_keys(name, with, contract).await?;
        let live = u32::try_from(secrets.len()).unwrap_or(u32::MAX);
        for secret in secrets {
            plan = plan.put(&Resource::Secret(secret), 0);
        }
        let plan = receiver.claim(family.change(plan, children));
        let plan = leans.change(plan, [(contract.id(), 1)]);
        let hints = self.hints(receiver.patterns()).await?;
        let shown = to_wire(&Stored::new(receiver), live);
        self.commit(plan, A::of(shown, hints), how).await
    }

    /// The keys that a new receiver has: those given, which the contract must have a place for at
    /// this moment; else a first one, where it requires one.
    async fn first_keys<N: Clone + Into<SignerName>>(
        &self,
        name: &N,
        with: &With,
        contract: &Contract,
    ) -> Result<Vec<Secret>, Refusal> {
        if with.secrets.is_empty() {
            return match contract.secret().required {
                true => Ok(vec![self.first_secret(&name.clone().into(), contract).await?]),
                false => Ok(Vec::new()),
            };
        }
        for (index, secret) in with.secrets.iter().enumerate() {
            self.check_key(&format!("secrets[{index}].material"), contract, secret)?;
        }
        Ok(with.secrets.clone())
    }

    fn new_receiver<R: Receiver>(
        &self,
        name: &R::Name,
        edit: &Edit<R::Own>,
        tenant: &Tenant,
        (contract, lane): (&Contract, LaneNo),
    ) -> Result<R, Refusal> {
        let mut blank = R::blank(name, contract, lane, self.clock.now());
        *blank.parts().environment = edit.environment.unwrap_or(Environment::Live);
        let receiver = self.edited(&blank, edit, name)?;
        let (mut wrong, policy) = (Violations::new(), self.contracts.policy(contract));
        receiver.endpoint().check(R::WORD, contract, &policy, &mut wrong);
        receiver.endpoint().check_tls(R::WORD, &mut wrong);
        receiver.endpoint().check_rules(R::WORD, &tenant.egress_rules, &policy, &mut wrong);
        check_contract::<R>(contract, &mut wrong);
        receiver.check_own(contract, &mut wrong);
        check_pool::<R>(receiver.pool(), self.contracts.pools(), &mut wrong);
        wrong.finish()?;
        Ok(receiver)
    }
}

/// The contract that a creation asks for.
fn under<Own>(edit: &Edit<Own>) -> ContractId {
    edit.contract.clone().unwrap_or_else(ContractId::standard_webhooks)
}

/// Whether the caller may choose the egress pool of a receiver. A pool may show a certificate, or
/// come from an address, that was agreed with one tenant's receivers: who may use it, operators say.
///
/// # Errors
///
/// ROLE_MISSING, where the caller has a role below operator.
pub(super) fn may_choose_pool<R: Receiver>(caller: &Caller) -> Result<(), Refusal> {
    match caller.role() {
        Some(role) if !role.covers(Role::Operator) => {
            let (field, needed) = (format!("{}.egress", R::WORD), Role::Operator);
            let text =
                format!("{field} is chosen by the roles {needed} and admin; this is a {role}");
            Err(Refusal::new(Reason::RoleMissing, text))
        }
        Some(_) | None => Ok(()),
    }
}

/// Notes that a receiver names an egress pool that there is not.
pub(super) fn check_pool<R: Receiver>(
    named: Option<&PoolName>,
    pools: &Pools,
    wrong: &mut Violations,
) {
    if let Some(pool) = named {
        wrong.check(format!("{}.egress", R::WORD), pools.check(pool.as_str()));
    }
}

/// Notes that a contract is none for this kind of receiver.
pub(super) fn check_contract<R: Receiver>(contract: &Contract, wrong: &mut Violations) {
    if let Some(text) = R::unfit(contract) {
        let text = format!("{} {text}", contract.id().name());
        wrong.add(format!("{}.contract", R::WORD), Rule::OutOfRange, text);
    }
}
