//! The wire contract as data: what a receiver sees, what counts as its acknowledgement, and when
//! an attempt is repeated.
//!
//! A contract is a document ([`Contract::read`], [`document`]); it states a [`ContractSpec`], which
//! becomes a [`Contract`] once, when all of it is checked and its templates are compiled. From then
//! on everything is a pure function over it:
//!
//! - [`render()`] makes body and headers, shared by subscriptions as far as [`Contract::sharing`];
//! - [`sign()`] adds the signatures of one subscription's keys over exactly those bytes;
//! - [`Contract::judge`] says what an answer means, and [`crate::outcome::decide`] plans the next
//!   attempt;
//! - [`render_check`] and [`sign_check`] do the same for a question to a callback, whose answer
//!   [`Verdict::allows`] reads;
//! - [`challenge()`] makes what a subscription's receiver has to answer before events go to it, and
//!   [`answers_challenge`] says whether it did;
//! - [`Trial::make`] renders and signs for an event at hand, without a store;
//! - [`verify`](verify::verify) is the other side: what a receiver makes of a request.
//!
//! Its files lie in three layers, each of which knows only those before it: [`subject`] is what a
//! request is about, [`compiled`] the parts of a contract and what they make of a subject,
//! [`document`] how a contract is stated, read and checked. [`verify`] stands on the second.

pub mod compiled;
pub mod document;
pub mod subject;
pub mod verify;

pub use compiled::{
    AuthKind, Batch, BodyFormat, CallbackRule, CallbackSpec, Canonical, ChallengeError,
    ChallengeForm, ChallengeMethod, ChallengeRequest, Condition, Contract, ContractType,
    EGRESS_DEFAULT, EcdsaForm, Failure, HEADERS, HeaderLine, Judged, MadeSignature, RenderError,
    Rendered, Retry, SecretRule, Sharing, Signature, SignatureAlgorithm, SignatureBytes, Signed,
    Signer, SigningKey, SigningKeys, TIMEOUT, TIMEOUT_DEFAULT, TIMEOUTS, Template, TextTemplate,
    Unsigned, Verdict, VerificationRule, answers_challenge, challenge, redacted_url, render,
    render_body, render_check, render_redacted, render_together, sign, sign_check, signatures,
};
pub use document::{
    BuiltIn, CatalogEntry, Composed, ContractSpec, DocumentFault, Extends, OVERRIDES_LEN,
    Overrides, Trial, TrialError, Tried, builtins, catalog, catalogued, shipped, standard_webhooks,
};
pub use subject::{Answer, ChallengeInput, CheckInput, RenderInput};

#[cfg(test)]
mod tests;
