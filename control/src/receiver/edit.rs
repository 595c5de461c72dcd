//! What a request says of a receiver: the chosen fields, parsed.

use std::collections::BTreeMap;

use pregon_core::error::{Refusal, Rule, Violations};
use pregon_core::event::Environment;
use pregon_core::id::ContractId;
use prost_types::FieldMask;

use super::auth::AuthEdit;
use super::endpoint::{self, Endpoint};
use super::headers::HeaderEdit;
use super::kind::{Given, Receiver};
use crate::mask::{Fields, Mask, put};
use crate::{Control, parse};

const IMMUTABLE: &[&str] = &["name", "environment"];
/// Fields of both kinds that only the server sets.
const OUTPUT_ONLY: &[&str] =
    &["create_time", "update_time", "revision", "etag", "state", "state_change", "secrets_live"];

/// The chosen fields; `Own` are those of the kind.
#[derive(Default)]
pub(super) struct Edit<Own> {
    display_name: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    url: Option<String>,
    /// As given, chosen or not: it is for good once the receiver exists.
    pub environment: Option<Environment>,
    /// The contract, if it is chosen.
    pub contract: Option<ContractId>,
    headers: Option<Vec<HeaderEdit>>,
    auth: Option<AuthEdit>,
    max_concurrency: Option<u32>,
    pub(super) own: Own,
}

impl<Own: Default> Edit<Own> {
    /// The fields that an update chooses.
    pub(super) fn parse<R: Receiver<Own = Own>>(
        wire: &R::Wire,
        mask: Option<&FieldMask>,
        wrong: &mut Violations,
    ) -> Self {
        let mask = Mask::parse(mask, &fields::<R>(wire), wrong);
        Self::masked::<R>(wire, &mask, wrong)
    }

    /// Every field: what a creation says.
    pub(super) fn whole<R: Receiver<Own = Own>>(wire: &R::Wire, wrong: &mut Violations) -> Self {
        Self::masked::<R>(wire, &Mask::all(&fields::<R>(wire)), wrong)
    }

    fn masked<R: Receiver<Own = Own>>(wire: &R::Wire, mask: &Mask, wrong: &mut Violations) -> Self {
        let Given {
            display_name,
            labels,
            url,
            environment,
            contract,
            headers,
            auth,
            max_concurrency,
            ..
        } = R::given(wire);
        let field = |path: &str| format!("{}.{path}", R::WORD);
        let environment = parse::environment(&field("environment"), environment, wrong);
        let mut edit =
            Self { environment, own: R::parse_own(wire, mask, wrong), ..Self::default() };
        if mask.has("display_name") {
            let parsed = parse::display_name(display_name);
            edit.display_name = wrong.check(field("display_name"), parsed);
        }
        if mask.has("labels") {
            edit.labels = Some(parse::labels(&field("labels"), labels, wrong));
        }
        if mask.has("url") {
            edit.url = endpoint::url(R::WORD, url, wrong);
        }
        if mask.has("contract") {
            let parsed = match contract.is_empty() {
                true => Ok(ContractId::standard_webhooks()),
                false => ContractId::parse_name(contract),
            };
            edit.contract = wrong.check(field("contract"), parsed);
        }
        if mask.has("headers") {
            edit.headers = Some(HeaderEdit::parse(R::WORD, headers, wrong));
        }
        if mask.has("auth") {
            edit.auth = AuthEdit::parse(R::WORD, auth, wrong);
        }
        if mask.has("max_concurrency") {
            edit.max_concurrency =
                parse::concurrency(&field("max_concurrency"), max_concurrency, wrong);
        }
        edit
    }

    /// What of it the contract has a say in.
    pub(super) fn endpoint(&self) -> Endpoint<'_> {
        Endpoint {
            url: self.url.as_deref(),
            headers: self.headers.as_ref().map(|all| all.iter().map(HeaderEdit::name).collect()),
            identity: self.auth.as_ref().map(AuthEdit::identity),
        }
    }
}

/// The fields of a receiver as the wire has them.
fn fields<R: Receiver>(wire: &R::Wire) -> Fields {
    let given = R::given(wire);
    let mut settable = vec![
        ("display_name", !given.display_name.is_empty()),
        ("labels", !given.labels.is_empty()),
        ("url", !given.url.is_empty()),
        ("contract", !given.contract.is_empty()),
        ("headers", !given.headers.is_empty()),
        ("auth", given.auth.is_some()),
        ("max_concurrency", given.max_concurrency != 0),
    ];
    settable.extend(R::own_fields(wire));
    let output_only = [OUTPUT_ONLY, R::OUTPUT_ONLY].concat();
    Fields { settable, immutable: IMMUTABLE, output_only }
}

impl Control {
    /// A receiver of this name as an edit leaves it, its credentials sealed.
    pub(super) fn edited<R: Receiver>(
        &self,
        before: &R,
        edit: &Edit<R::Own>,
        name: &R::Name,
    ) -> Result<R, Refusal> {
        let mut now = before.clone();
        let parts = now.parts();
        if edit.environment.is_some_and(|wanted| wanted != *parts.environment) {
            let field = format!("{}.environment", R::WORD);
            let text = format!("is {} for good", parts.environment);
            return Err(Refusal::field(field, Rule::Immutable, text));
        }
        put(&mut parts.common.display_name, edit.display_name.as_ref());
        put(&mut parts.common.labels, edit.labels.as_ref());
        put(parts.url, edit.url.as_ref());
        put(parts.contract, edit.contract.as_ref());
        put(parts.max_concurrency, edit.max_concurrency.as_ref());
        if let Some(auth) = &edit.auth {
            *parts.auth = self.sealed_auth(R::WORD, auth, parts.auth, name)?;
            parts.trust.clone_from(auth.trust());
        }
        let headers = edit.headers.as_deref();
        *parts.headers = self.sealed_headers(R::WORD, headers, parts.headers, name)?;
        now.put_own(&edit.own);
        Ok(now)
    }
}
