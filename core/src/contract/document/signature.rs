//! An entry of a document's `signatures`.

use super::fault::{optional, parsed};
use super::headers;
use crate::contract::compiled::{
    BodyFormat, EcdsaForm, HEADERS, KeyChoice, Place, Signature, SignatureAlgorithm,
    SignatureEncoding, SignaturePlace, TextTemplate,
};
use crate::error::{Rule, Wrong};
use crate::expr::Site;
use crate::yaml::{At, Map, Reader};

/// What is signed where nothing else is said.
const PAYLOAD: &str = "${request.body}";
/// What is written of each signature where nothing else is said.
const EACH: &str = "${signature}";
/// Longest separator and name.
const LEN: usize = 64;
/// Steps of a place in the body.
const STEPS: usize = 16;

/// Reads all, and holds each against those before it.
pub(super) fn list<'a>(
    reader: &mut Reader,
    at: &At<'a>,
    format: BodyFormat,
) -> Option<Vec<Signature>> {
    let mut before: Vec<Signature> = Vec::new();
    let whole = reader.list_of(at, 0..=HEADERS, |reader, at| {
        let signature = read(reader, at)?;
        if let Some(rule) = contradiction(&signature, format, &before) {
            reader.add(at.fault(rule));
        }
        before.push(signature);
        Some(())
    });
    whole.map(|_| before)
}

/// Why a signature does not go with the body's format or with those before it.
fn contradiction(
    signature: &Signature,
    format: BodyFormat,
    before: &[Signature],
) -> Option<&'static str> {
    if before.iter().any(|other| other.name == signature.name) {
        return Some("another has the same name; give each its own");
    }
    let SignaturePlace::Header { name, prefix, separator, .. } = &signature.place else {
        return (format == BodyFormat::Form).then_some("a form has no place for a signature");
    };
    let differs = |other: &Signature| match &other.place {
        SignaturePlace::Header { name: same, prefix: front, separator: between, .. } => {
            same == name && (front != prefix || between != separator)
        }
        SignaturePlace::Body(_) => false,
    };
    let differs = before.iter().any(differs);
    differs.then_some("must have the prefix and separator of the others in this header")
}

/// Reads one.
fn read<'a>(reader: &mut Reader, at: &At<'a>) -> Option<Signature> {
    let known = [
        "name",
        "algorithm",
        "form",
        "payload",
        "encoding",
        "keys",
        "header",
        "each",
        "prefix",
        "separator",
        "body",
    ];
    let map = reader.map(at, &known)?;
    let algorithms = [
        ("hmac_sha1", SignatureAlgorithm::HmacSha1),
        ("hmac_sha256", SignatureAlgorithm::HmacSha256),
        ("hmac_sha512", SignatureAlgorithm::HmacSha512),
        ("ed25519", SignatureAlgorithm::Ed25519),
        ("rsa_sha256", SignatureAlgorithm::RsaSha256),
        ("rsa_pss_sha256", SignatureAlgorithm::RsaPssSha256),
        ("ecdsa_p256", SignatureAlgorithm::EcdsaP256),
        ("ecdsa_p521", SignatureAlgorithm::EcdsaP521),
        ("ecdsa_secp256k1", SignatureAlgorithm::EcdsaSecp256k1),
    ];
    let algorithm = reader.check(map.required("algorithm")).cloned();
    let algorithm = algorithm.and_then(|at| reader.check(at.choice(&algorithms)));
    let forms = [("der", EcdsaForm::Der), ("raw", EcdsaForm::Raw)];
    let form = optional(reader, &map, "form", |reader, at| {
        if algorithm.is_some_and(|algorithm| !algorithm.is_ecdsa()) {
            reader.add(at.fault("is for an algorithm of ECDSA"));
            return None;
        }
        reader.check(at.choice(&forms))
    });
    let encodings = [
        ("hex", SignatureEncoding::Hex),
        ("base64", SignatureEncoding::Base64),
        ("base64url", SignatureEncoding::Base64Url),
    ];
    let encoding =
        optional(reader, &map, "encoding", |reader, at| reader.check(at.choice(&encodings)));
    let choices = [("all", KeyChoice::All), ("newest", KeyChoice::Newest)];
    let keys = optional(reader, &map, "keys", |reader, at| reader.check(at.choice(&choices)));
    let payload = template(reader, &map, "payload", PAYLOAD, Place::Payload);
    let name = optional(reader, &map, "name", short);
    let place = place(reader, &map);
    let (place, keys) = (place?, keys?.unwrap_or(KeyChoice::All));
    // A member of the body holds one value.
    let keys = match &place {
        SignaturePlace::Body(_) => KeyChoice::Newest,
        SignaturePlace::Header { .. } => keys,
    };
    let name = name?.unwrap_or_else(|| match &place {
        SignaturePlace::Header { name, .. } => Box::from(&**name),
        SignaturePlace::Body(path) => path.join(".").into(),
    });
    Some(Signature {
        name,
        algorithm: algorithm?,
        form: form?.unwrap_or_default(),
        payload: payload?,
        encoding: encoding?.unwrap_or(SignatureEncoding::Hex),
        keys,
        place,
    })
}

fn place<'a>(reader: &mut Reader, map: &Map<'a>) -> Option<SignaturePlace> {
    match (map.get("header"), map.get("body")) {
        (Some(at), None) => {
            let name = parsed(reader, at, headers::name);
            let each = template(reader, map, "each", EACH, Place::Each);
            let prefix = template(reader, map, "prefix", "", Place::Header);
            let separator = optional(reader, map, "separator", short);
            Some(SignaturePlace::Header {
                name: name?,
                each: each?,
                prefix: prefix?,
                separator: separator?.unwrap_or_else(|| ",".into()),
            })
        }
        (None, Some(at)) => {
            for key in ["each", "prefix", "separator"] {
                if let Some(at) = map.get(key) {
                    reader.add(at.fault("is for a signature in a header"));
                }
            }
            parsed(reader, at, body_path).map(SignaturePlace::Body)
        }
        (Some(_), Some(_)) | (None, None) => {
            reader.add(map.at().fault("must have header or body, and not both"));
            None
        }
    }
}

/// A member's path such as `signature` or `meta.signature`.
fn body_path(text: &str) -> Result<Box<[Box<str>]>, Wrong> {
    let word = |name: &&str| {
        !name.is_empty()
            && name.len() <= LEN
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
            // Canonical forms would move a name that looks like an index to the front.
            && !name.bytes().all(|b| b.is_ascii_digit())
    };
    let names: Vec<&str> = text.split('.').collect();
    if names.len() <= STEPS && names.iter().all(word) {
        return Ok(names.into_iter().map(Box::from).collect());
    }
    let rule = "must be names of A-Z a-z 0-9 _ - joined by full stops, none of digits only";
    Err(Wrong::new(Rule::ContractInvalid, rule))
}

fn template<'a>(
    reader: &mut Reader,
    map: &Map<'a>,
    key: &str,
    default: &str,
    place: Place,
) -> Option<TextTemplate> {
    match map.get(key) {
        Some(at) => parsed(reader, at, |text| {
            let text = TextTemplate::parse(text, Site::Template)?;
            text.check(place).map(|()| text)
        }),
        None => TextTemplate::parse(default, Site::Template).ok(),
    }
}

fn short(reader: &mut Reader, at: &At<'_>) -> Option<Box<str>> {
    let text = reader.check(at.text())?;
    if text.len() > LEN {
        reader.add(at.fault(format_args!("at most {LEN} bytes")));
        return None;
    }
    Some(text.into())
}
