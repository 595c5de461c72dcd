//! Headers of a receiver's own: parsed, sealed where they are credentials, kept.
//!
//! A credential is sealed like a signing key, bound to the resource and the header that has it. It
//! is shown as [`MASKED`], and sent back so in an update, it stays: what was read may be written.

use std::fmt;

use pregon_core::attempt::MASKED;
use pregon_core::error::{Refusal, Rule, Violations};
use pregon_core::header::{CustomHeaders, is_credential};
use pregon_core::limits;
use pregon_core::model::{HeaderText, OwnHeaders};
use pregon_core::secret::SecretBytes;
use pregon_proto::v1;

use crate::Control;

/// What a request says of a header.
#[derive(Clone, Debug)]
pub(crate) struct HeaderEdit {
    name: String,
    value: SecretBytes,
    /// Whether the value is a credential, by the name or because the caller says so.
    credential: bool,
}

impl HeaderEdit {
    /// Parses `{resource}.headers`, whatever the contract says of them. Wrong ones are noted, and
    /// given back as they are, for the contract to be asked about them too.
    pub(crate) fn parse(resource: &str, given: &[v1::Header], wrong: &mut Violations) -> Vec<Self> {
        let pairs = given.iter().map(|header| (header.name.as_str(), header.value.as_str()));
        for (index, one) in CustomHeaders::parse(pairs, &[]).err().into_iter().flatten() {
            wrong.add(format!("{resource}.headers[{index}]"), one.rule, one.description);
        }
        let edit = |header: &v1::Header| Self {
            name: header.name.clone(),
            value: SecretBytes::new(header.value.clone().into_bytes()),
            credential: header.credential || is_credential(&header.name),
        };
        given.iter().take(limits::HEADERS).map(edit).collect()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn plain(&self) -> HeaderText {
        HeaderText::Plain(String::from_utf8_lossy(self.value.expose()).into_owned())
    }
}

/// Headers as the API shows them.
pub(crate) fn shown_headers(headers: &[(String, HeaderText)]) -> Vec<v1::Header> {
    let header = |(name, value): &(String, HeaderText)| {
        let (value, credential) = match value {
            HeaderText::Plain(value) if !is_credential(name) => (value.as_str(), false),
            HeaderText::Plain(_) | HeaderText::Sealed { .. } => (MASKED, true),
        };
        v1::Header { name: name.clone(), value: value.to_owned(), credential }
    };
    headers.iter().map(header).collect()
}

impl Control {
    /// What is stored of the headers of a resource of this name, in the place of those that were;
    /// without an edit, those. No credential is stored as it is.
    ///
    /// # Errors
    ///
    /// REQUIRED for a credential that is neither given nor kept.
    pub(crate) fn sealed_headers(
        &self,
        resource: &str,
        edit: Option<&[HeaderEdit]>,
        stored: &[(String, HeaderText)],
        name: &impl fmt::Display,
    ) -> Result<OwnHeaders, Refusal> {
        let seal = |header: &str, value: &SecretBytes| HeaderText::Sealed {
            sealed: self.seal(value, &HeaderText::binding(name, header)),
        };
        let sealed = |(header, value): &(String, HeaderText)| {
            let value = match value {
                HeaderText::Plain(text) if is_credential(header) => {
                    seal(header, &SecretBytes::new(text.clone().into_bytes()))
                }
                HeaderText::Plain(_) | HeaderText::Sealed { .. } => value.clone(),
            };
            (header.clone(), value)
        };
        let stored: OwnHeaders = stored.iter().map(sealed).collect();
        let Some(edit) = edit else { return Ok(stored) };
        let mut headers = OwnHeaders::new();
        for (index, one) in edit.iter().enumerate() {
            let hidden = |it: &&(String, HeaderText)| match &it.1 {
                HeaderText::Sealed { .. } => it.0.eq_ignore_ascii_case(&one.name),
                HeaderText::Plain(_) => false,
            };
            let kept = stored.iter().find(hidden).map(|(_, value)| value);
            let value = match (one.value.expose() == MASKED.as_bytes(), kept, one.credential) {
                (true, Some(kept), _) => kept.clone(),
                (true, None, true) => {
                    let field = format!("{resource}.headers[{index}].value");
                    let text = format!("must be a value: there is none that {MASKED} stands for");
                    return Err(Refusal::field(field, Rule::Required, text));
                }
                (true, None, false) | (false, _, false) => one.plain(),
                (false, _, true) => seal(&one.name, &one.value),
            };
            headers.push((one.name.clone(), value));
        }
        Ok(headers)
    }
}
