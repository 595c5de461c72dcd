//! Who signs: a subscription or a callback, and the contract it signs under.

use std::sync::Arc;

use super::{Callback, Contract, ContractId, Control, Kind, Refusal, SignerName, Subscription};

/// The word for what signs.
pub(super) fn word(signer: &SignerName) -> &'static str {
    match signer {
        SignerName::Subscription(_) => Subscription::WORD,
        SignerName::Callback(_) => Callback::WORD,
    }
}

impl Control {
    /// The contract's id of whoever signs; none where that does not exist.
    pub(super) async fn find_signer(
        &self,
        signer: &SignerName,
    ) -> Result<Option<ContractId>, Refusal> {
        let name = signer.to_string();
        Ok(match signer {
            SignerName::Subscription(_) => {
                self.find::<Subscription>(&name).await?.map(|it| it.value.contract)
            }
            SignerName::Callback(_) => {
                self.find::<Callback>(&name).await?.map(|it| it.value.contract)
            }
        })
    }

    /// The contract of whoever signs, or the refusal that says that one does not exist.
    pub(super) async fn contract_of(&self, signer: &SignerName) -> Result<Arc<Contract>, Refusal> {
        let found = self.find_signer(signer).await?;
        let id = found.ok_or_else(|| Refusal::not_found(word(signer), signer.to_string()))?;
        self.contract(&id).await
    }

    /// The contract by which a request is parsed: that of whoever signs, the default where nobody
    /// does; the request is refused for that later.
    pub(super) async fn contract_meant(
        &self,
        signer: Option<&SignerName>,
    ) -> Result<Arc<Contract>, Refusal> {
        let found = match signer {
            Some(signer) => self.find_signer(signer).await?,
            None => None,
        };
        self.contract(&found.unwrap_or_else(ContractId::standard_webhooks)).await
    }
}
