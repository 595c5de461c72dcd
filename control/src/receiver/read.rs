//! Receivers as callers read them: one, or a page.

use std::collections::HashMap;

use pregon_core::error::{Refusal, Violations};
use pregon_core::event::Environment;
use pregon_core::id::ContractId;
use pregon_core::model::Tenant;

use super::kind::{Receiver, to_wire};
use crate::listing::Paging;
use crate::parse::Scope;
use crate::{Control, parse, service};

/// Which receivers of a list are wanted, as far as both kinds have it.
pub(crate) struct Filter<State> {
    environment: Option<Environment>,
    state: Option<State>,
    contract: Option<ContractId>,
    labels: HashMap<String, String>,
}

impl<State: Copy + PartialEq> Filter<State> {
    /// Parses what a request says of it but for the state.
    pub(crate) fn parse(
        (environment, contract): (i32, &str),
        labels: &HashMap<String, String>,
        state: Option<State>,
        wrong: &mut Violations,
    ) -> Self {
        let environment =
            parse::environment("environment", environment, wrong).or_else(service::environment);
        let contract = match contract {
            "" => None,
            name => wrong.check("contract", ContractId::parse_name(name)),
        };
        Self { environment, state, contract, labels: labels.clone() }
    }

    /// Whether a receiver is wanted.
    pub(crate) fn wants<R: Receiver<State = State>>(&self, it: &R) -> bool {
        let labels = &it.common().labels;
        self.environment.is_none_or(|wanted| wanted == it.environment())
            && self.state.is_none_or(|wanted| wanted == it.state())
            && self.contract.as_ref().is_none_or(|wanted| wanted == it.contract())
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl Control {
    /// A receiver of this name.
    pub(crate) async fn get_receiver<R: Receiver>(&self, name: &str) -> Result<R::Wire, Refusal> {
        let name = parse::only("name", R::parse_name(name))?;
        let stored = self.fetch::<R>(&name.to_string()).await?;
        let live = self.live_secrets(&name.into()).await?;
        Ok(to_wire(&stored, live))
    }

    /// A page of the receivers of a tenant, or of all, that are wanted, and the token of the next
    /// page. `wrong` is what was found wrong with the request so far.
    pub(crate) async fn list_receivers<R: Receiver>(
        &self,
        parent: &str,
        paging: &Paging,
        wants: impl Fn(&R) -> bool,
        mut wrong: Violations,
    ) -> Result<(Vec<R::Wire>, String), Refusal> {
        let scope = wrong.check("parent", Scope::parse(parent));
        let scope = parse::done(wrong, scope)?;
        let prefix = match scope.tenant() {
            None => "tenants/".to_owned(),
            Some(tenant) => {
                self.fetch::<Tenant>(&tenant.name()).await?;
                format!("{}/{}/", tenant.name(), R::COLLECTION)
            }
        };
        let name = |it: &R| it.name().to_string();
        let (found, next) = self.page(&prefix, paging, name, wants).await?;
        let signers = found.iter().map(|it| it.value.name().into());
        let live = self.live_secrets_of(R::SECRETS, &prefix, signers).await?;
        let live = |it: &R| live.get(&it.name().into()).copied().unwrap_or(0);
        Ok((found.iter().map(|it| to_wire(it, live(&it.value))).collect(), next))
    }
}
