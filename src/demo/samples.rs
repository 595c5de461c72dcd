//! The sample events of five real webhook contracts, as event data under the default contract.

/// One sample.
pub(super) struct Sample {
    /// Its type.
    pub(super) event_type: &'static str,
    /// What it tells.
    pub(super) description: &'static str,
    /// Its data.
    pub(super) json: &'static str,
}

macro_rules! sample {
    ($event_type:literal, $description:literal, $file:literal) => {
        Sample {
            event_type: $event_type,
            description: $description,
            json: include_str!(concat!("../../contracts/samples/", $file)),
        }
    };
}

/// One event of each kind.
pub(super) const SAMPLES: [Sample; 8] = [
    sample!("order.captured", "A preauthorised amount was captured.", "1-order.captured.json"),
    sample!(
        "order.desynchronized",
        "An order and its bank disagree.",
        "1-order.desynchronized.json"
    ),
    sample!(
        "order.liveness.fail",
        "A card holder failed the liveness check.",
        "1-order.liveness.fail.json"
    ),
    sample!("payment.refunded", "A payment was given back.", "2-operator.json"),
    sample!(
        "agreement.status.updated",
        "A wallet agreement changed state.",
        "3-agreement.status.updated.json"
    ),
    sample!(
        "agreement.payment_method.updated",
        "A wallet agreement has another means of payment.",
        "3-agreement.payment_method.updated.json"
    ),
    sample!(
        "facturacion.encolado",
        "An invoice waits to be issued.",
        "4-facturacion.encolado.json"
    ),
    sample!("crypto_delivered", "Bought coins arrived.", "5-crypto_delivered.json"),
];
