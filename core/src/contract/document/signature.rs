//! An entry of a document's `signatures`.

use super::fault::{optional, parsed};
use super::headers;
use crate::contract::compiled::{
    BodyFormat, EcdsaForm, HEADERS, KeyChoice, Place, Signature, SignatureAlgorithm,
    SignatureEncoding, SignatureHeader, SignaturePlace, TextTemplate,
};
use crate::error::{Rule, Wrong};
use crate::expr::Names;
use crate::json::Step;
use crate::yaml::{At, Map, Reader};

/// What is signed where nothing else is said.
const PAYLOAD: &str = "${request.body}";
/// What is written of each signature where nothing else is said.
const EACH: &str = "${signature}";
/// Longest separator and name.
const LEN: usize = 64;
/// Steps of a place in the body.
const STEPS: usize = 16;
/// What a place in the body must be.
const PATH: &str = "must be names of A-Z a-z 0-9 _ -, none of digits only, joined by full stops; \
    an element of a list is name[0]";
/// At the end of a header's name: one for each key.
const NUMBER: &str = "${key.number}";

/// Reads all, and holds each against those before it.
pub(super) fn list<'a>(
    reader: &mut Reader,
    at: &At<'a>,
    format: BodyFormat,
    names: Names<'_>,
) -> Option<Vec<Signature>> {
    let mut before: Vec<Signature> = Vec::new();
    let whole = reader.list_of(at, 0..=HEADERS, |reader, at| {
        let signature = read(reader, at, format, names)?;
        if let Some(rule) = contradiction(&signature, &before) {
            reader.add(at.fault(rule));
        }
        before.push(signature);
        Some(())
    });
    whole.map(|_| before)
}

/// Why a signature does not go with those before it.
fn contradiction(signature: &Signature, before: &[Signature]) -> Option<&'static str> {
    if before.iter().any(|other| other.name == signature.name) {
        return Some("another has the same name; give each its own");
    }
    if signature.algorithm.is_digest() && !signature.payload.speaks_of_secret() {
        return Some("a hash without the secret signs nothing: payload must name secret");
    }
    if let SignaturePlace::Query { name, .. } = &signature.place {
        let same = |other: &Signature| match &other.place {
            SignaturePlace::Query { name: other, .. } => other == name,
            SignaturePlace::Header { .. } | SignaturePlace::Body { .. } => false,
        };
        return before.iter().any(same).then_some("another goes into the same parameter");
    }
    let SignaturePlace::Header { header, prefix, separator, .. } = &signature.place else {
        return None;
    };
    let differs = |other: &Signature| match &other.place {
        SignaturePlace::Header { header: same, prefix: front, separator: between, .. } => {
            let alike = same.is_numbered() == header.is_numbered();
            same.is(header) && !(alike && front == prefix && between == separator)
        }
        SignaturePlace::Body { .. } | SignaturePlace::Query { .. } => false,
    };
    let differs = before.iter().any(differs);
    differs.then_some("must have the prefix and separator of the others in this header")
}

/// Reads one.
fn read<'a>(
    reader: &mut Reader,
    at: &At<'a>,
    format: BodyFormat,
    names: Names<'_>,
) -> Option<Signature> {
    let known = [
        "name",
        "algorithm",
        "form",
        "payload",
        "encoding",
        "keys",
        "order",
        "header",
        "each",
        "prefix",
        "separator",
        "body",
        "query",
    ];
    let map = reader.map(at, &known)?;
    let algorithms = [
        ("hmac_sha1", SignatureAlgorithm::HmacSha1),
        ("hmac_sha256", SignatureAlgorithm::HmacSha256),
        ("hmac_sha512", SignatureAlgorithm::HmacSha512),
        ("ed25519", SignatureAlgorithm::Ed25519),
        ("md5", SignatureAlgorithm::Md5),
        ("sha1", SignatureAlgorithm::Sha1),
        ("sha256", SignatureAlgorithm::Sha256),
        ("sha512", SignatureAlgorithm::Sha512),
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
    let payload = template(reader, &map, "payload", PAYLOAD, (Place::Payload, names));
    let name = optional(reader, &map, "name", short);
    let orders = [("newest_first", KeyChoice::All), ("oldest_first", KeyChoice::OldestFirst)];
    let order = optional(reader, &map, "order", |reader, at| reader.check(at.choice(&orders)));
    if let (Some(at), Some(Some(KeyChoice::Newest))) = (map.get("order"), keys) {
        reader.add(at.fault("is for keys all"));
    }
    let place = place(reader, &map, format, names);
    let (place, keys) = (place?, keys?.or(order?).unwrap_or(KeyChoice::All));
    // One place holds one value.
    let keys = match &place {
        SignaturePlace::Body { .. } | SignaturePlace::Query { .. } => KeyChoice::Newest,
        SignaturePlace::Header { .. } => keys,
    };
    let written = |key| map.get(key).and_then(|at| at.text().ok()).unwrap_or_default();
    let name = name?.unwrap_or_else(|| match &place {
        SignaturePlace::Header { .. } => written("header").to_ascii_lowercase().into(),
        SignaturePlace::Body { .. } => written("body").into(),
        SignaturePlace::Query { name, .. } => name.clone(),
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

fn place<'a>(
    reader: &mut Reader,
    map: &Map<'a>,
    format: BodyFormat,
    names: Names<'_>,
) -> Option<SignaturePlace> {
    let each = template(reader, map, "each", EACH, (Place::Each, names));
    match (map.get("header"), map.get("body"), map.get("query")) {
        (Some(at), None, None) => {
            let header = parsed(reader, at, header);
            let prefix = template(reader, map, "prefix", "", (Place::Header, names));
            let separator = optional(reader, map, "separator", short);
            Some(SignaturePlace::Header {
                header: header?,
                each: each?,
                prefix: prefix?,
                separator: separator?.unwrap_or_else(|| ",".into()),
            })
        }
        (None, Some(at), None) => {
            alone(reader, map);
            let path = parsed(reader, at, |text| match format {
                BodyFormat::Json => member_path(text),
                BodyFormat::Form | BodyFormat::Multipart => field(text),
            });
            Some(SignaturePlace::Body { path: path?, each: each? })
        }
        (None, None, Some(at)) => {
            alone(reader, map);
            Some(SignaturePlace::Query { name: short(reader, at)?, each: each? })
        }
        (Some(_) | None, Some(_) | None, Some(_) | None) => {
            reader.add(map.at().fault("must have one of header, body and query"));
            None
        }
    }
}

/// Refuses what only a header with several values has.
fn alone(reader: &mut Reader, map: &Map<'_>) {
    for key in ["order", "prefix", "separator"] {
        if let Some(at) = map.get(key) {
            reader.add(at.fault("is for a signature in a header"));
        }
    }
}

/// A header's name; with `${key.number}` at its end, one for each key.
fn header(text: &str) -> Result<SignatureHeader, Wrong> {
    match text.strip_suffix(NUMBER) {
        Some(name) => headers::name(name).map(|name| SignatureHeader::numbered(&name)),
        None => headers::name(text).map(SignatureHeader::named),
    }
}

/// A member's path such as `signature`, `meta.signature` or `items[0].signature`.
pub(super) fn member_path(text: &str) -> Result<Box<[Step]>, Wrong> {
    let mut steps = Vec::new();
    for part in text.split('.') {
        let (name, mut rest) = part.split_at(part.find('[').unwrap_or(part.len()));
        // Canonical forms would move a name that looks like an index to the front.
        if !is_word(name) || name.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Wrong::new(Rule::ContractInvalid, PATH));
        }
        steps.push(Step::Member(name.into()));
        while !rest.is_empty() {
            let index = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            let (index, after) = index.ok_or_else(|| Wrong::new(Rule::ContractInvalid, PATH))?;
            let number = index.parse().ok().filter(|_| index.bytes().all(|b| b.is_ascii_digit()));
            steps.push(Step::Element(
                number.ok_or_else(|| Wrong::new(Rule::ContractInvalid, PATH))?,
            ));
            rest = after;
        }
    }
    match steps.last() {
        Some(Step::Member(_)) if steps.len() <= STEPS => Ok(steps.into()),
        Some(Step::Member(_) | Step::Element(_)) | None => {
            Err(Wrong::new(Rule::ContractInvalid, PATH))
        }
    }
}

/// A field of a form.
fn field(text: &str) -> Result<Box<[Step]>, Wrong> {
    match is_word(text) {
        true => Ok([Step::Member(text.into())].into()),
        false => {
            let rule = "must be the name of a field: 1 to 64 of A-Z a-z 0-9 _ -";
            Err(Wrong::new(Rule::ContractInvalid, rule))
        }
    }
}

fn is_word(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    !name.is_empty() && name.len() <= LEN && name.bytes().all(word)
}

fn template<'a>(
    reader: &mut Reader,
    map: &Map<'a>,
    key: &str,
    default: &str,
    (place, names): (Place, Names<'_>),
) -> Option<TextTemplate> {
    match map.get(key) {
        Some(at) => parsed(reader, at, |text| {
            let text = TextTemplate::parse(text, names)?;
            text.check(place).map(|()| text)
        }),
        None => TextTemplate::parse(default, names).ok(),
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
