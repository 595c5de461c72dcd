//! The second layer: the parts of a contract, compiled, and what they make of a subject. Everything
//! here is a pure function; nothing knows how a document is written.

pub mod accessor;
mod append;
mod batch;
mod body;
mod callback;
mod challenge;
mod condition;
mod contract;
mod error;
mod gzip;
mod query;
mod render;
pub mod retry;
mod setting;
mod sign;
mod signature;
mod template;
mod text;
mod together;
mod value;
mod verdict;
mod verification;

pub use accessor::{Accessor, Sharing, TimeForm};
pub use batch::{BATCH_BYTES, BATCH_EVENTS, BATCH_WAIT, Batch};
pub use body::DEPTH;
pub use callback::{CallbackRule, CallbackSpec};
pub use challenge::{ChallengeError, ChallengeRequest, answers_challenge, challenge};
pub use condition::Condition;
pub use contract::{Contract, Judged};
pub use error::{BODY_LEN, QUERY_LEN, RenderError};
pub use query::{PARAMETERS, Parameter};
pub use render::{
    HEADER_LEN, HeaderLine, Rendered, redacted_url, render, render_check, render_redacted,
};
pub use retry::{Failure, Retry};
pub use setting::{
    AuthKind, BodyFormat, Canonical, ContractType, EGRESS_DEFAULT, Gzip, HEADERS, Overridable,
    SecretRule, TIMEOUT, TIMEOUT_DEFAULT, TIMEOUTS,
};
pub use sign::{MadeSignature, Signed, sign, sign_check, signatures};
pub use signature::{
    EcdsaForm, KeyChoice, Signature, SignatureAlgorithm, SignatureBytes, SignatureEncoding,
    SignatureHeader, SignaturePlace, Signer, SigningKey, SigningKeys, Unsigned,
};
pub use template::{JsonLiteral, Member, Template};
pub use text::TextTemplate;
pub use together::{render_body, render_together};
pub use value::Value;
pub use verdict::{MEMBERS, POSITIVE, Verdict};
pub use verification::{
    Alphabet, ChallengeForm, ChallengeMethod, ChallengeSign, Expected, QUERY, QUERY_NAME_LEN,
    REPEAT, STEPS, StepSpec, TEXT_LEN, VerificationRule, VerificationSpec,
};

pub(super) use body::BodyTemplate;
pub(super) use contract::{Fixed, Names};
pub(super) use gzip::decompress;
pub(super) use signature::header_names;
pub(super) use text::{Piece, Place, TextPiece, split};
