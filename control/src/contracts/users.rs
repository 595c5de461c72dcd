//! The users of a contract: found one by one, and held against what the contract is to become.
//!
//! Users lie in all tenants, so all subscriptions and callbacks are walked, a page at a time, and
//! only where the count says that there is somebody to be found. What is equal in both documents is
//! not asked again: a subscription that the deployment's settings would refuse today is no reason
//! against another retry schedule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pregon_core::contract::Contract;
use pregon_core::error::{Reason, Refusal, Violations};
use pregon_core::id::ContractId;
use pregon_core::model::{Callback, ContractDocument, Secret, Subscription};
use pregon_core::url::EndpointUrl;

use crate::Control;
use crate::catalog::Kind as _;
use crate::receiver::Receiver;
use crate::secrets::{is_live, lacks_one};

/// Documents that one call to the store lists.
const CHUNK: usize = 1000;

/// What a contract is, and what it is to become.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// What it is; none: it cannot be read any more.
    pub before: Option<Arc<Contract>>,
    /// What it is to become.
    pub after: Arc<Contract>,
}

impl Change {
    /// Whether the two say something else of this.
    fn of<T: PartialEq>(&self, what: impl Fn(&Contract) -> T) -> bool {
        self.before.as_ref().is_none_or(|before| what(before) != what(&self.after))
    }
}

impl Control {
    /// The refusal to let a contract go, which names one of its users.
    pub(super) async fn used(&self, id: &ContractId, users: u64) -> Result<Refusal, Refusal> {
        let first = match self.first_user::<Subscription>(id).await? {
            None => self.first_user::<Callback>(id).await?,
            found @ Some(_) => found,
        };
        let name = first.map_or_else(String::new, |name| format!(", {name} among them"));
        Ok(in_use(id, format!("{} is used by {users}{name}", id.name())))
    }

    async fn first_user<R: Receiver>(&self, id: &ContractId) -> Result<Option<String>, Refusal> {
        let mut after = Some(String::new());
        while after.is_some() {
            let wanted = |contract: &ContractId| contract == id;
            if let Some(user) = self.next_users::<R>(wanted, &mut after).await?.first() {
                return Ok(Some(user.name().to_string()));
            }
        }
        Ok(None)
    }

    /// Refuses an update of a contract, which changes this one and others that extend it, where a user
    /// of one of them does not fit.
    pub(super) async fn check_users(
        &self,
        id: &ContractId,
        changes: &BTreeMap<ContractId, Change>,
    ) -> Result<(), Refusal> {
        if changes.is_empty() {
            return Ok(());
        }
        self.check_users_of::<Subscription>(id, changes).await?;
        self.check_users_of::<Callback>(id, changes).await
    }

    async fn check_users_of<R: Receiver>(
        &self,
        id: &ContractId,
        changes: &BTreeMap<ContractId, Change>,
    ) -> Result<(), Refusal> {
        let mut after = Some(String::new());
        while after.is_some() {
            let changed = |contract: &ContractId| changes.contains_key(contract);
            for user in self.next_users::<R>(changed, &mut after).await? {
                let Some(change) = changes.get(user.contract()) else { continue };
                if let Some(why) = self.misfit(&user, change).await? {
                    let what = match user.contract() {
                        own if own == id => "it".to_owned(),
                        child => format!("{}, which extends it", child.name()),
                    };
                    let text = format!("{} would not fit {what}: {why}", user.name());
                    return Err(in_use(id, text));
                }
            }
        }
        Ok(())
    }

    /// The users of a kind on the next page of it; there may be none on it. `after` is the last
    /// name of the page before, and none where this page is the last.
    async fn next_users<R: Receiver>(
        &self,
        wanted: impl Fn(&ContractId) -> bool,
        after: &mut Option<String>,
    ) -> Result<Vec<R>, Refusal> {
        let page = self.list::<R>("tenants/", after.as_deref().unwrap_or(""), CHUNK).await?;
        let full = page.last().filter(|_| page.len() == CHUNK);
        *after = full.map(|last| last.value.name().to_string());
        let all = page.into_iter().map(|it| it.value);
        Ok(all.filter(|it| wanted(it.contract())).collect())
    }

    /// Why a user does not fit what its contract is to become; none: it does.
    async fn misfit<R: Receiver>(
        &self,
        user: &R,
        change: &Change,
    ) -> Result<Option<String>, Refusal> {
        let mut endpoint = user.endpoint();
        let allowed = |contract: &Contract, url: &str| {
            EndpointUrl::parse(url, &self.contracts.policy(contract)).is_ok()
        };
        endpoint.url = endpoint.url.filter(|url| {
            let rules = |it: &Contract| {
                let names: Vec<_> = it.query_names().map(str::to_owned).collect();
                (it.url().cloned(), names)
            };
            change.of(rules) && change.before.as_ref().is_none_or(|it| allowed(it, url))
        });
        let (mut wrong, policy) = (Violations::new(), self.contracts.policy(&change.after));
        endpoint.check("", &change.after, &policy, &mut wrong);
        user.check_own(&change.after, &mut wrong);
        if let Some(first) = wrong.as_slice().first() {
            let field = first.field.trim_start_matches('.');
            return Ok(Some(format!("{field} {}", first.description)));
        }
        if let Some(text) = R::unfit(&change.after) {
            return Ok(Some(format!("it {text}")));
        }
        if !change.of(|it| (it.secret().clone(), it.kinds().collect::<Vec<_>>())) {
            return Ok(None);
        }
        let (now, prefix) = (self.clock.now(), format!("{}/secrets/", user.name()));
        let secrets = self.list::<Secret>(&prefix, "", CHUNK).await?;
        let live = || secrets.iter().filter(|secret| is_live(&secret.value, now));
        if lacks_one(&change.after, live()) {
            return Ok(Some("it has no live secret that could sign".to_owned()));
        }
        self.unfit_key(&change.after, live())
    }
}

/// Contracts that a refusal names.
const NAMED: usize = 5;

/// The refusal to let a contract go that others extend.
pub(super) fn extended(id: &ContractId, children: &BTreeSet<ContractId>) -> Refusal {
    let mut names: Vec<_> = children.iter().take(NAMED).map(ContractId::name).collect();
    if let Some(more) = children.len().checked_sub(NAMED).filter(|more| *more > 0) {
        names.push(format!("{more} more"));
    }
    in_use(id, format!("{} is extended by {}", id.name(), names.join(", ")))
}

/// The refusal to change a contract, or to let it go.
pub(super) fn in_use(id: &ContractId, message: String) -> Refusal {
    Refusal::new(Reason::ContractInUse, message).about(ContractDocument::WORD, id.name())
}
