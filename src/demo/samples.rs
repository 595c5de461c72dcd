//! The samples that five companies publish of their webhooks, and what is published to get them.
//!
//! A sample's event data is the example that the contract has of the type; what a publisher says
//! besides (id, when it happened) is in the table. So nothing of a sample's envelope is copied: the
//! contract has to make it.

use anyhow::Context as _;
use pregon_core::contract::{Contract, builtins};
use pregon_core::json::compact;

/// One sample.
pub(super) struct Sample {
    /// The company's contract.
    pub(super) contract: &'static str,
    /// The event type.
    pub(super) event_type: &'static str,
    /// What a receiver gets, as the company prints it.
    file: &'static str,
    /// The id to publish with; empty: an assigned one.
    pub(super) id: &'static str,
    /// When it happened; empty: now.
    pub(super) occur_time: &'static str,
}

macro_rules! sample {
    ($contract:literal, $event_type:literal, $file:literal, $id:literal, $occur_time:literal) => {
        Sample {
            contract: $contract,
            event_type: $event_type,
            file: include_str!(concat!("../../contracts/samples/", $file, ".json")),
            id: $id,
            occur_time: $occur_time,
        }
    };
}

/// Every sample of the five contracts.
#[rustfmt::skip]
pub(super) const SAMPLES: [Sample; 8] = [
    sample!("preauth", "order.captured", "1-order.captured", "", ""),
    sample!("preauth", "order.desynchronized", "1-order.desynchronized", "", ""),
    sample!("preauth", "order.liveness.fail", "1-order.liveness.fail", "", ""),
    sample!("operator", "payment.refunded", "2-operator", "", ""),
    sample!("mercadopago_wallet_connect", "agreement.status.updated", "3-agreement.status.updated",
        "11ae6c7564ed497f945f755fcabat8k6", "2021-09-30T23:24:44Z"),
    sample!("mercadopago_wallet_connect", "agreement.payment_method.updated", "3-agreement.payment_method.updated",
        "44ae6c7564ed497f945f755fcabat9d4", "2021-09-30T23:24:44Z"),
    sample!("tusfacturas", "facturacion.encolado", "4-facturacion.encolado",
        "xxxxx", "2022-03-18T15:58:11-03:00"),
    sample!("crypto_onramp", "crypto_delivered", "5-crypto_delivered",
        "", "2022-10-26T22:36:41.658Z"),
];

impl Sample {
    /// The event data to publish.
    pub(super) fn data(&self) -> anyhow::Result<String> {
        let kinds = contract(self.contract)?.types();
        let kind = kinds.iter().find(|kind| kind.id.as_str() == self.event_type);
        let kind = kind.with_context(|| format!("{} has no {}", self.contract, self.event_type))?;
        Ok(String::from_utf8(compact(kind.example.as_bytes()))?)
    }

    /// Whether a body is the sample in compact form, byte for byte but for a signature: of the
    /// secrets that the companies signed their samples with, none is known.
    pub(super) fn is(&self, body: &[u8]) -> bool {
        let sample = compact(self.file.as_bytes());
        unsigned(&sample) == unsigned(body)
    }
}

/// A built-in contract.
pub(super) fn contract(name: &str) -> anyhow::Result<&'static Contract> {
    let found = builtins().iter().find(|built_in| built_in.contract.id().as_str() == name);
    found.map(|found| &*found.contract).with_context(|| format!("there is no contract {name}"))
}

/// The text in front of a signature that is the last member.
fn unsigned(body: &[u8]) -> &[u8] {
    const NAME: &[u8] = br#","signature":""#;
    let at = body.windows(NAME.len()).rposition(|window| window == NAME);
    at.and_then(|at| body.get(..at)).unwrap_or(body)
}

#[cfg(test)]
mod tests {
    use pregon_core::clock::Timestamp;

    use super::*;

    #[test]
    fn every_sample_can_be_published() {
        for sample in &SAMPLES {
            let data = sample.data().unwrap();
            assert!(!data.contains('\n') && data.starts_with('{'), "{data}");
            let time = sample.occur_time;
            assert!(time.is_empty() || Timestamp::parse(time).is_some(), "{time}");
        }
    }

    #[test]
    fn data_stands_in_its_sample_as_it_is_published() {
        // Of the others, the contract gives the members other places.
        for sample in
            SAMPLES.iter().filter(|it| !matches!(it.contract, "tusfacturas" | "crypto_onramp"))
        {
            let (data, body) = (sample.data().unwrap(), compact(sample.file.as_bytes()));
            let body = String::from_utf8(body).unwrap();
            assert!(body.ends_with(&format!(":{data}}}")), "{}: {data}", sample.event_type);
        }
    }

    #[test]
    fn a_sample_is_known_by_all_its_bytes_but_its_signature() {
        let sample = SAMPLES.last().unwrap();
        let body = r#"{"eventName":"crypto_delivered","orderId":"5a3288ea-0bd4-44d2-af11-aae1f88bbd61","timeStamp":"2022-10-26T22:36:41.658Z","signature":"00"}"#;
        assert!(sample.is(body.as_bytes()));
        assert!(!sample.is(body.replace("41.658", "41.65").as_bytes()));
        assert!(!sample.is(body.replace(':', ": ").as_bytes()));
        assert!(!SAMPLES[0].is(body.as_bytes()));
    }
}
