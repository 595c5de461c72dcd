//! The contracts there are: for now Standard Webhooks and no other.

use pregon_core::contract::{Contract, standard_webhooks};
use pregon_core::error::Refusal;
use pregon_core::id::ContractId;
use pregon_core::secret::SecretForm;
use pregon_core::url::UrlPolicy;

/// The contracts there are.
#[derive(Clone, Debug)]
pub(crate) struct Contracts {
    default: Contract,
    policy: UrlPolicy,
}

impl Contracts {
    /// The built-in ones, in a deployment with this policy.
    pub(crate) fn new(policy: &UrlPolicy) -> Self {
        let default = standard_webhooks();
        let policy = default.url().map_or_else(|| policy.clone(), |rules| policy.under(rules));
        Self { default, policy }
    }

    /// The contract of a subscription that names none.
    pub(crate) fn default_id(&self) -> ContractId {
        self.default.id().clone()
    }

    /// A contract, or the refusal that says it does not exist.
    pub(crate) fn get(&self, id: &ContractId) -> Result<&Contract, Refusal> {
        match id == self.default.id() {
            true => Ok(&self.default),
            false => Err(Refusal::not_found("contract", id.name())),
        }
    }

    /// Which URLs its subscriptions may have.
    pub(crate) fn url_policy(&self) -> &UrlPolicy {
        &self.policy
    }

    /// Headers that its subscriptions may not have.
    pub(crate) fn reserved_headers(&self) -> Vec<&str> {
        self.default.header_names()
    }

    /// How its secrets look as text.
    pub(crate) fn secret_form(&self) -> &SecretForm {
        &self.default.secret().form
    }

    /// Whether its subscriptions must have a secret.
    pub(crate) fn requires_secret(&self) -> bool {
        self.default.secret().required
    }
}
