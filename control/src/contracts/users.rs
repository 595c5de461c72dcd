//! The users of a contract: found one by one, and held against what the contract is to become.
//!
//! Users lie in all tenants, so all subscriptions and callbacks are walked, a page at a time, and
//! only where the count says that there is somebody to be found. What is equal in both documents is
//! not asked again: a subscription that the deployment's settings would refuse today is no reason
//! against another retry schedule.

use pregon_core::contract::Contract;
use pregon_core::error::{Reason, Refusal, Violations};
use pregon_core::id::{ContractId, SignerName};
use pregon_core::model::{Callback, ContractDocument, Secret, Subscription};
use pregon_core::url::EndpointUrl;

use crate::Control;
use crate::catalog::{Kind, Stored};
use crate::receiver::Receiver;
use crate::secrets::{is_live, lacks_one};

/// Documents that one call to the store lists.
const CHUNK: usize = 1000;

/// A subscription or a callback under a contract.
enum User {
    Subscription(Box<Subscription>),
    Callback(Box<Callback>),
}

impl User {
    fn name(&self) -> SignerName {
        match self {
            User::Subscription(it) => it.name().into(),
            User::Callback(it) => it.name().into(),
        }
    }

    fn receiver(&self) -> Receiver<'_> {
        match self {
            User::Subscription(it) => Receiver::from(&**it),
            User::Callback(it) => Receiver::from(&**it),
        }
    }
}

/// What a contract is (none: it cannot be read any more) and what it is to become.
#[derive(Clone, Copy)]
struct Change<'a> {
    before: Option<&'a Contract>,
    after: &'a Contract,
}

impl Change<'_> {
    /// Whether the two say something else of this.
    fn of<T: PartialEq>(&self, what: impl Fn(&Contract) -> T) -> bool {
        self.before.is_none_or(|before| what(before) != what(self.after))
    }
}

/// Where a walk stands: users of both kinds, a page at a time.
#[derive(Default)]
struct Walk {
    after: String,
    callbacks: bool,
    done: bool,
}

impl Control {
    /// The refusal to let a contract go, which names one of its users.
    pub(super) async fn used(&self, id: &ContractId, users: u64) -> Result<Refusal, Refusal> {
        let mut walk = Walk::default();
        let mut first = None;
        while first.is_none() && !walk.done {
            first = self.next_users(id, &mut walk).await?.first().map(|user| user.name());
        }
        let name = first.map_or_else(String::new, |name| format!(", {name} among them"));
        Ok(in_use(id, format!("{} is used by {users}{name}", id.name())))
    }

    /// Refuses a change of a contract that one of its users does not fit.
    pub(super) async fn check_users(
        &self,
        id: &ContractId,
        before: Option<&Contract>,
        after: &Contract,
    ) -> Result<(), Refusal> {
        let (change, mut walk) = (Change { before, after }, Walk::default());
        while !walk.done {
            for user in self.next_users(id, &mut walk).await? {
                if let Some(why) = self.misfit(&user, change).await? {
                    let text = format!("{} would not fit it: {why}", user.name());
                    return Err(in_use(id, text));
                }
            }
        }
        Ok(())
    }

    /// The users of the next page; there may be none on it.
    async fn next_users(&self, id: &ContractId, walk: &mut Walk) -> Result<Vec<User>, Refusal> {
        let under = |contract: &ContractId| contract == id;
        if walk.callbacks {
            let page = self.list::<Callback>("tenants/", &walk.after, CHUNK).await?;
            walk.turn(&page, |it| it.name().to_string());
            let users = page.into_iter().map(|it| it.value).filter(|it| under(&it.contract));
            return Ok(users.map(|it| User::Callback(Box::new(it))).collect());
        }
        let page = self.list::<Subscription>("tenants/", &walk.after, CHUNK).await?;
        walk.turn(&page, |it| it.name().to_string());
        let users = page.into_iter().map(|it| it.value).filter(|it| under(&it.contract));
        Ok(users.map(|it| User::Subscription(Box::new(it))).collect())
    }

    /// Why a user does not fit what its contract is to become; none: it does.
    async fn misfit(&self, user: &User, change: Change<'_>) -> Result<Option<String>, Refusal> {
        let mut receiver = user.receiver();
        let allowed = |contract: &Contract, url: &str| {
            EndpointUrl::parse(url, &self.contracts.policy(contract)).is_ok()
        };
        receiver.url = receiver.url.filter(|url| {
            change.of(|it| it.url().cloned()) && change.before.is_none_or(|it| allowed(it, url))
        });
        let (mut wrong, policy) = (Violations::new(), self.contracts.policy(change.after));
        receiver.check("", change.after, &policy, &mut wrong);
        if let Some(first) = wrong.as_slice().first() {
            let field = first.field.trim_start_matches('.');
            return Ok(Some(format!("{field} {}", first.description)));
        }
        if matches!(user, User::Callback(_)) && change.after.callback().is_none() {
            return Ok(Some("the signatures speak of what only an event has".to_owned()));
        }
        if !change.of(|it| (it.secret().clone(), it.uses_hmac(), it.uses_ed25519())) {
            return Ok(None);
        }
        let (now, prefix) = (self.clock.now(), format!("{}/secrets/", user.name()));
        let secrets = self.list::<Secret>(&prefix, "", CHUNK).await?;
        let live = || secrets.iter().filter(|secret| is_live(&secret.value, now));
        if lacks_one(change.after, live()) {
            return Ok(Some("it has no live secret that could sign".to_owned()));
        }
        self.unfit_key(change.after, live())
    }
}

impl Walk {
    /// Goes on behind a page.
    fn turn<T: Kind>(&mut self, page: &[Stored<T>], name: impl Fn(&T) -> String) {
        match page.last() {
            Some(last) if page.len() == CHUNK => self.after = name(&last.value),
            Some(_) | None => {
                self.after.clear();
                self.done = self.callbacks;
                self.callbacks = true;
            }
        }
    }
}

fn in_use(id: &ContractId, message: String) -> Refusal {
    let resource = Some((ContractDocument::WORD, id.name()));
    Refusal { resource, ..Refusal::new(Reason::ContractInUse, message) }
}
