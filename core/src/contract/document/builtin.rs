//! Contracts that come with Pregón: documents in `contracts/`, compiled into the binary.

use std::sync::{Arc, LazyLock};

use crate::contract::compiled::Contract;

/// The id of the contract of subscriptions that name none.
pub const STANDARD_WEBHOOKS: &str = "standard_webhooks";

/// A contract that comes with Pregón.
#[derive(Clone, Debug)]
pub struct BuiltIn {
    /// The contract; its revision is 0.
    pub contract: Arc<Contract>,
    /// The document that states it.
    pub document: &'static str,
}

macro_rules! documents {
    ($($name:literal),* $(,)?) => {
        /// The documents, by name.
        const DOCUMENTS: &[&str] =
            &[$(include_str!(concat!("../../../../contracts/", $name, ".yaml"))),*];
    };
}

documents! {
    "cloudevents",
    "cloudevents_binary",
    "crypto_onramp",
    "mercadopago_wallet_connect",
    "operator",
    "preauth",
    "standard_webhooks",
    "tusfacturas",
}

static BUILT_IN: LazyLock<Vec<BuiltIn>> = LazyLock::new(|| {
    let read = |document: &&'static str| {
        let contract = Contract::read(document, 0).expect("built in, and tested to be valid");
        BuiltIn { contract: Arc::new(contract), document }
    };
    DOCUMENTS.iter().map(read).collect()
});

/// Every contract that comes with Pregón, by name. Read once, when first asked for.
pub fn builtins() -> &'static [BuiltIn] {
    &BUILT_IN
}

/// Standard Webhooks 1.0: <https://github.com/standard-webhooks/standard-webhooks>.
pub fn standard_webhooks() -> Arc<Contract> {
    let found = builtins().iter().find(|it| it.contract.id().as_str() == STANDARD_WEBHOOKS);
    Arc::clone(&found.expect("one of the documents").contract)
}
