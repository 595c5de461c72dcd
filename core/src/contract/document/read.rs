//! From a document to what it states, key by key, and to the [`Contract`] that comes of it.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::fault::{DocumentFault, noted, optional, parsed, reason};
use super::spec::ContractSpec;
use super::{batch, example, headers, retry, signature, template, url, verification};
use crate::contract::compiled::{
    AuthKind, BodyFormat, CallbackSpec, Canonical, Condition, Contract, ContractType, Gzip,
    Overridable, Piece, SecretRule, Signature, SignaturePlace, TIMEOUT, TIMEOUTS, Template,
    Verdict, split,
};
use crate::expr::{LetPiece, Lets, Names, Site};
use crate::id::{ContractId, EventTypeId};
use crate::limits;
use crate::pattern::Pattern;
use crate::redact::SensitivePath;
use crate::secret::{KEY_BYTES, SecretEncoding, SecretForm};
use crate::yaml::{self, At, Map, Reader};

/// Event types that a contract may bring along.
pub const TYPES: usize = 100;
/// Examples of a contract: each is rendered whenever the contract is read.
pub const EXAMPLES: usize = 100;

/// Keys at the top of a document.
pub(super) const KEYS: &[&str] = &[
    "contract",
    "extends",
    "description",
    "event_types",
    "types",
    "let",
    "body",
    "body_format",
    "canonical",
    "content_type",
    "user_agent",
    "gzip",
    "batch",
    "headers",
    "traceparent",
    "secret",
    "signatures",
    "acknowledge",
    "refuse",
    "disable",
    "timeouts",
    "retry",
    "overridable",
    "url",
    "auth",
    "egress",
    "provisioning",
    "sensitive",
    "callback",
    "verification",
    "examples",
];

impl Contract {
    /// Reads a document as written by this revision of the configuration (0: built in).
    ///
    /// # Errors
    ///
    /// Every fault that was found, in the order of the document; at least one.
    pub fn read(document: &str, revision: i64) -> Result<Self, Vec<DocumentFault>> {
        Self::read_counting(document, revision).map(|(contract, _)| contract)
    }

    /// The same, and how many examples hold: those of `examples`, and those of its types.
    ///
    /// # Errors
    ///
    /// As [`Contract::read`].
    pub fn read_counting(
        document: &str,
        revision: i64,
    ) -> Result<(Self, usize), Vec<DocumentFault>> {
        let refused = |faults: Vec<yaml::Fault>| -> Vec<DocumentFault> {
            faults.into_iter().map(DocumentFault::from).collect()
        };
        let node = yaml::read(document).map_err(|fault| refused(vec![fault]))?;
        compiled(&At::root(&node), revision).map_err(refused)
    }
}

/// The contract of a whole document, and how many of its examples hold; or every fault in it.
pub(super) fn compiled(
    root: &At<'_>,
    revision: i64,
) -> Result<(Contract, usize), Vec<yaml::Fault>> {
    let (spec, examples) = stated(root)?;
    let contract = Contract::new(spec)
        .map_err(|wrong| vec![root.fault(reason(&wrong))])?
        .with_revision(revision);
    let mut reader = Reader::new();
    let tried = example::check(&mut reader, root, &contract, &examples);
    reader.finish()?;
    Ok((contract, tried))
}

/// What a document states, or every fault in it.
pub(super) fn stated(
    root: &At<'_>,
) -> Result<(ContractSpec, Vec<example::Trial>), Vec<yaml::Fault>> {
    let mut reader = Reader::new();
    let read = spec(&mut reader, root);
    reader.finish()?;
    read.ok_or_else(|| vec![root.fault("cannot be read")])
}

/// The whole document. Every key is read before anything is given up: all faults are reported.
fn spec<'a>(reader: &mut Reader, root: &At<'a>) -> Option<(ContractSpec, Vec<example::Trial>)> {
    let map = reader.map(root, KEYS)?;
    if let Some(at) = map.get("extends") {
        reader.add(at.fault("must be put together with the contract that it names first"));
    }
    let id = reader.check(map.required("contract")).cloned();
    let id = id.and_then(|at| parsed(reader, &at, ContractId::parse));
    let mut spec = noted(reader, root, ContractSpec::new(id.clone().unwrap_or_else(stand_in)))?;

    let lets = map.get("let").map(|at| lets(reader, at)).unwrap_or_default();
    identity(reader, &map, &mut spec);
    request(reader, &map, &mut spec, lets.at(Site::Template));
    answers(reader, &map, &mut spec, &lets);
    rules(reader, &map, &mut spec, lets.at(Site::Template));
    if let Some(at) = map.get("callback") {
        spec.callback = callback(reader, at, &spec.signatures, &lets).unwrap_or(spec.callback);
    }
    if let Some(at) = map.get("verification") {
        spec.verification = verification::read(reader, at, &spec.signatures, &lets);
    }
    let examples = optional(reader, &map, "examples", |reader, at| {
        reader.list_of(at, 1..=EXAMPLES, example::read)
    });
    let examples = examples.flatten().unwrap_or_default();
    if map.get("examples").is_none() && spec.types.iter().all(|kind| kind.example.is_empty()) {
        reader.add(root.fault("needs at least one of examples, or a type with an example"));
    }
    id.map(|_| (spec, examples))
}

/// The values that the document names.
fn lets(reader: &mut Reader, at: &At<'_>) -> Lets {
    let mut lets = Lets::default();
    for member in reader.check(at.members()).unwrap_or_default() {
        let Some(text) = reader.check(member.value.text()) else { continue };
        let added = split(text).and_then(|pieces| {
            let pieces: Vec<_> = pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Literal(text) => LetPiece::Text(text),
                    Piece::Expression(source) => LetPiece::Expression(source),
                })
                .collect();
            lets.add(&member.key.text, &pieces)
        });
        if let Err(wrong) = added {
            reader.add(member.value.fault(reason(&wrong)));
        }
    }
    lets
}

/// An id for a document whose own cannot be read; such a document is refused.
fn stand_in() -> ContractId {
    ContractId::parse("x").unwrap_or_else(|_| unreachable!("one letter is an id"))
}

fn identity<'a>(reader: &mut Reader, map: &Map<'a>, spec: &mut ContractSpec) {
    if let Some(at) = map.get("description")
        && let Some(text) = reader.check(at.text())
    {
        if text.chars().count() > limits::DESCRIPTION_LEN {
            reader.add(at.fault(format_args!("at most {} characters", limits::DESCRIPTION_LEN)));
        }
        spec.description = text.to_owned();
    }
    if let Some(at) = map.get("event_types") {
        let patterns = reader
            .list_of(at, 1..=limits::PATTERNS, |reader, at| parsed(reader, at, Pattern::parse));
        spec.event_types = patterns.unwrap_or_default();
    }
    if let Some(at) = map.get("types") {
        spec.types = reader.list_of(at, 1..=TYPES, event_type).unwrap_or_default();
        let mut seen = std::collections::HashSet::new();
        for (kind, at) in spec.types.iter().zip(at.elements(0..=TYPES).unwrap_or_default()) {
            if !seen.insert(&kind.id) {
                reader.add(at.fault(format_args!("type {} stands twice", kind.id)));
            }
        }
    }
}

fn event_type<'a>(reader: &mut Reader, at: &At<'a>) -> Option<ContractType> {
    let map = reader.map(at, &["type", "description", "schema", "example"])?;
    let id = reader.check(map.required("type")).cloned();
    let id = id.and_then(|at| parsed(reader, &at, EventTypeId::parse));
    let text = |reader: &mut Reader, key: &str| {
        let text = optional(reader, &map, key, |reader, at| reader.check(at.text()));
        text.map(|text| text.unwrap_or_default().to_owned())
    };
    let description = text(reader, "description");
    let (schema, example) = (text(reader, "schema"), text(reader, "example"));
    if let (Some(schema), Some(_)) = (&schema, &example) {
        example::check_type(reader, &map, schema);
    }
    Some(ContractType { id: id?, description: description?, schema: schema?, example: example? })
}

fn request<'a>(reader: &mut Reader, map: &Map<'a>, spec: &mut ContractSpec, names: Names<'_>) {
    if let Some(at) = map.get("body") {
        spec.body = template::body(reader, at, names).unwrap_or(Template::List(Vec::new()));
    }
    if let Some(at) = map.get("body_format") {
        let formats = [
            ("json", BodyFormat::Json),
            ("form", BodyFormat::Form),
            ("multipart", BodyFormat::Multipart),
        ];
        spec.body_format = reader.check(at.choice(&formats)).unwrap_or(BodyFormat::Json);
    }
    if let Some(at) = map.get("canonical") {
        let forms = [
            ("verbatim", Canonical::Verbatim),
            ("json_stringify", Canonical::JsonStringify),
            ("rfc8785", Canonical::Rfc8785),
        ];
        spec.canonical = reader.check(at.choice(&forms)).unwrap_or(Canonical::Verbatim);
        if spec.body_format != BodyFormat::Json && spec.canonical != Canonical::Verbatim {
            reader.add(at.fault("is for body_format json"));
        }
    }
    spec.content_type = headers::fixed(reader, map, "content_type", names);
    if let Some(at) = map.get("content_type")
        && spec.body_format == BodyFormat::Multipart
    {
        reader.add(at.fault("is made by body_format multipart, with its boundary"));
    }
    spec.user_agent = headers::fixed(reader, map, "user_agent", names);
    if let Some(at) = map.get("gzip") {
        let choices =
            [("before_signing", Gzip::BeforeSigning), ("after_signing", Gzip::AfterSigning)];
        spec.gzip = reader.check(at.choice(&choices));
    }
    if let Some(at) = map.get("batch") {
        spec.batch = batch::read(reader, at, spec);
    }
    if let Some(at) = map.get("traceparent") {
        spec.traceparent = reader.check(at.boolean()).unwrap_or(true);
    }
    if let Some(at) = map.get("secret") {
        spec.secret = secret(reader, at).unwrap_or(spec.secret.clone());
    }
    if let Some(at) = map.get("signatures") {
        spec.signatures = signature::list(reader, at, spec.body_format, names).unwrap_or_default();
    } else if spec.secret.required
        && let Some(at) = map.get("secret")
    {
        reader.add(at.fault("required needs one of signatures to use it"));
    }
    if let Some(at) = map.get("gzip")
        && spec.gzip == Some(Gzip::BeforeSigning)
        && spec.signatures.iter().any(|it| matches!(it.place, SignaturePlace::Body { .. }))
    {
        reader.add(at.fault("before_signing leaves no place for a signature in the body"));
    }
    if let Some(at) = map.get("headers") {
        let headers = headers::read(reader, at, names, &spec.signatures);
        spec.headers = headers.unwrap_or_default();
    }
}

fn secret<'a>(reader: &mut Reader, at: &At<'a>) -> Option<SecretRule> {
    let map = reader.map(at, &["required", "form", "prefix", "bytes", "generate"])?;
    let required = optional(reader, &map, "required", |reader, at| reader.check(at.boolean()));
    let forms = [
        ("text", SecretEncoding::Text),
        ("hex", SecretEncoding::Hex),
        ("base64", SecretEncoding::Base64),
    ];
    let form = optional(reader, &map, "form", |reader, at| reader.check(at.choice(&forms)));
    let prefix = optional(reader, &map, "prefix", |reader, at| reader.check(at.text()));
    let bytes = optional(reader, &map, "bytes", bytes);
    let generate = optional(reader, &map, "generate", |reader, at| reader.check(length(at)));
    let form = SecretForm::new(
        form?.unwrap_or(SecretEncoding::Text),
        prefix?.unwrap_or_default(),
        bytes?.unwrap_or(KEY_BYTES),
        generate?.unwrap_or(32),
    );
    Some(SecretRule { required: required?.unwrap_or(false), form: noted(reader, at, form)? })
}

/// A length in bytes, of a key.
fn length(at: &At<'_>) -> Result<usize, yaml::Fault> {
    let length = at.integer(1..=256)?;
    Ok(usize::try_from(length).unwrap_or(usize::MAX))
}

fn bytes<'a>(reader: &mut Reader, at: &At<'a>) -> Option<RangeInclusive<usize>> {
    let bounds = reader.list_of(at, 2..=2, |reader, at| reader.check(length(at)))?;
    let [from, to] = <[usize; 2]>::try_from(bounds).ok()?;
    Some(from..=to)
}

fn answers<'a>(reader: &mut Reader, map: &Map<'a>, spec: &mut ContractSpec, lets: &Lets) {
    let mut condition = |key: &str| {
        let at = map.get(key)?;
        parsed(reader, at, |source| Condition::with(source, lets))
    };
    if let Some(acknowledge) = condition("acknowledge") {
        spec.acknowledge = acknowledge;
    }
    if let Some(refuse) = condition("refuse") {
        spec.refuse = refuse;
    }
    if let Some(disable) = condition("disable") {
        spec.disable = disable;
    }
    if let Some(at) = map.get("timeouts") {
        let timeouts: Option<Vec<Duration>> =
            reader.list_of(at, TIMEOUTS, |reader, at| reader.check(at.duration(TIMEOUT)));
        spec.timeouts = timeouts.unwrap_or(std::mem::take(&mut spec.timeouts));
    }
    if let Some(at) = map.get("retry")
        && let Some(retry) = retry::read(reader, at)
    {
        spec.retry = retry;
    }
    if let Some(at) = map.get("overridable") {
        let keys: Vec<_> = Overridable::ALL.iter().map(|key| (key.word(), *key)).collect();
        let read = |reader: &mut Reader, at: &At<'_>| reader.check(at.choice(&keys));
        spec.overridable = reader.list_of(at, 1..=keys.len(), read).unwrap_or_default();
    }
}

fn rules<'a>(reader: &mut Reader, map: &Map<'a>, spec: &mut ContractSpec, names: Names<'_>) {
    if let Some(at) = map.get("url") {
        url::read(reader, at, spec, names);
    }
    if let Some(at) = map.get("auth") {
        let kinds: Vec<_> = AuthKind::ALL.iter().map(|kind| (kind.word(), *kind)).collect();
        let read = |reader: &mut Reader, at: &At<'a>| reader.check(at.choice(&kinds));
        spec.auth = reader.list_of(at, 1..=kinds.len(), read);
    }
    if let Some(at) = map.get("egress")
        && let Some(pool) = reader.check(at.text())
    {
        // A pool is named like everything else that operators name.
        if ContractId::parse(pool).is_err() {
            reader.add(at.fault("must be 1 to 64 of A-Z a-z 0-9 _ -"));
        }
        spec.egress = pool.into();
    }
    if let Some(at) = map.get("provisioning") {
        let kinds = [("self", false), ("approval", true)];
        spec.approval = reader.check(at.choice(&kinds)).unwrap_or(false);
    }
    if let Some(at) = map.get("sensitive") {
        let paths = reader.list_of(at, 0..=limits::SENSITIVE_PATHS, |reader, at| {
            parsed(reader, at, SensitivePath::parse)
        });
        spec.sensitive = paths.unwrap_or_default();
    }
}

fn callback<'a>(
    reader: &mut Reader,
    at: &At<'a>,
    signatures: &[Signature],
    lets: &Lets,
) -> Option<CallbackSpec> {
    let map = reader.map(at, &["body", "headers", "verdict"])?;
    let names = lets.at(Site::CheckTemplate);
    let mut spec = noted(reader, at, CallbackSpec::new())?;
    let body = optional(reader, &map, "body", |reader, at| template::body(reader, at, names));
    let headers = optional(reader, &map, "headers", |reader, at| {
        headers::read(reader, at, names, signatures)
    });
    let verdict = optional(reader, &map, "verdict", |reader, at| {
        parsed(reader, at, |text| match text {
            "default" => Ok(Verdict::Default),
            source => Verdict::with(source, lets),
        })
    });
    spec.body = body?.unwrap_or(spec.body);
    spec.headers = headers?.unwrap_or_default();
    spec.verdict = verdict?.unwrap_or_default();
    Some(spec)
}
