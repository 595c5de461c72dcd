//! What can be wrong with a KMS, in words: one sentence for each thing that somebody can do about it.
//! `docs/operations.md` has them all.

use std::sync::Arc;
use std::time::Duration;

/// Why a KMS did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KmsFault {
    /// There is none.
    #[error("the key is wrapped by a KMS: name the one that opens it with --kms-address")]
    Unnamed,
    /// There is one.
    #[error("the KMS at {address} {trouble}")]
    At {
        /// Where it is.
        address: Arc<str>,
        /// What is wrong.
        trouble: Trouble,
    },
}

/// What is wrong. No token, key or ciphertext stands in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Its token cannot be read here.
    #[error("was not asked: --kms-token-file {file} {why}")]
    TokenFile {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// Its name.
    #[error(
        "has a name that does not resolve: check --kms-address and this machine's name servers"
    )]
    Unresolved,
    /// Nobody listens.
    #[error("refuses connections: start it, or check the port in --kms-address")]
    Refused,
    /// Something on the way.
    #[error("cannot be reached ({why}): check --kms-address and the network")]
    Unreachable {
        /// What the system says.
        why: String,
    },
    /// Silence.
    #[error("gave no answer within {} s: check its load, the network and any firewall", time.as_secs())]
    Slow {
        /// How long it was waited for.
        time: Duration,
    },
    /// TLS: trust.
    #[error("shows a certificate whose issuer is unknown: put its root into --kms-ca-file")]
    TlsIssuer,
    /// TLS: a root of that name has another key.
    #[error(
        "shows a certificate that another authority of that name has signed: put the root that \
         signed it into --kms-ca-file"
    )]
    TlsSignature,
    /// TLS: the name.
    #[error("shows a certificate for another name: use a name in --kms-address that it has")]
    TlsName,
    /// TLS: time.
    #[error(
        "shows a certificate that has expired or is not valid yet: renew it, or check the clocks"
    )]
    TlsTime,
    /// TLS: anything else.
    #[error("fails the TLS handshake ({why}): check that https is spoken there, and its log")]
    Tls {
        /// What rustls says.
        why: String,
    },
    /// Somebody else answers.
    #[error("does not answer as a Vault does ({why}): check --kms-address")]
    Strange {
        /// What came.
        why: &'static str,
    },
    /// Sealed or not set up.
    #[error("is sealed, or not set up yet: unseal it")]
    Sealed,
    /// It is not the active one.
    #[error("sends elsewhere, which is not followed: name the active server in --kms-address")]
    Elsewhere,
    /// No token was shown.
    #[error("wants a token: name a file with one in --kms-token-file")]
    NoToken,
    /// It knows no such token.
    #[error(
        "does not know the token of --kms-token-file: it was revoked or has expired, or is another \
         namespace's: put a valid one into the file"
    )]
    BadToken,
    /// The token may not.
    #[error("denies the token this: give its policy the capability `update` on {path}")]
    Denied {
        /// What was asked for.
        path: String,
    },
    /// It has no such key.
    #[error("has no transit key {key}: name the one that wrapped the key in --kms-key")]
    UnknownKey {
        /// The name.
        key: String,
    },
    /// It has no such engine.
    #[error("has no transit engine at {mount}: enable it, or set --kms-mount and --kms-namespace")]
    NoEngine {
        /// The path.
        mount: String,
    },
    /// A version that is retired.
    #[error(
        "does not open what an old version of the transit key has wrapped: lower its \
         min_decryption_version, run pregon keys rewrap, and raise it again"
    )]
    TooOld,
    /// Another key's, or changed.
    #[error(
        "cannot open it with transit key {key}: it was wrapped by another key, or was changed: put \
         the line back as it was"
    )]
    Changed {
        /// The name.
        key: String,
    },
    /// Too many requests.
    #[error("has too much to do, or its quota is used up: raise the quota")]
    Busy,
    /// Anything else that it says.
    #[error("answers with status {status}, {said:?}: its log says why")]
    Failed {
        /// Of HTTP.
        status: u16,
        /// Its own words, cut.
        said: String,
    },
}
