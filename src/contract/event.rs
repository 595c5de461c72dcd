//! The event of `pregon contract render`: a JSON object, its data kept byte for byte.

use pregon_core::clock::Timestamp;
use pregon_core::contract::Trial;
use pregon_core::error::{Violations, Wrong};
use pregon_core::event::{Attributes, Environment, NewEvent, parse_attributes};
use pregon_core::id::{EventId, EventTypeId, TenantId};
use pregon_core::json::{self, Kind, Node, Number};
use pregon_core::limits;

use super::fault::Fault;

/// Members of an event.
const MEMBERS: [&str; 8] =
    ["type", "data", "id", "version", "time", "environment", "tenant", "attributes"];
/// Largest file in bytes: the largest data, and 64 KiB for everything else.
pub const FILE_LEN: usize = limits::EVENT_DATA_MAX + 64 * 1024;
/// The data may be nested as deep as any; the event is one level above them.
const DEPTH: usize = limits::JSON_DEPTH + 1;

/// An event's file while it is read.
struct Reader<'a> {
    file: &'a str,
    text: &'a [u8],
    faults: Vec<Fault>,
}

/// Reads an event.
///
/// # Errors
///
/// Everything that is wrong with it, each with its member and place.
pub fn read(file: &str, text: &[u8]) -> Result<NewEvent, Vec<Fault>> {
    if let Err(error) = json::check(text, DEPTH) {
        let rule = format!("must be JSON: {}", error.kind);
        return Err(vec![Fault::at_byte(file, text, error.offset, rule)]);
    }
    let mut reader = Reader { file, text, faults: Vec::new() };
    let event = reader.event(Node::of(text));
    match event {
        Some(event) if reader.faults.is_empty() => Ok(event),
        Some(_) | None => Err(reader.faults),
    }
}

impl<'a> Reader<'a> {
    /// Notes a fault at the first byte of a part of the text.
    fn add(&mut self, part: &[u8], rule: impl Into<String>) {
        let offset = part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        self.faults.push(Fault::at_byte(self.file, self.text, offset, rule));
    }

    fn event(&mut self, root: Node<'a>) -> Option<NewEvent> {
        if root.kind() != Kind::Object {
            self.add(root.source(), "must be an object with type and data");
            return None;
        }
        for (name, _) in root.members() {
            if !MEMBERS.contains(&&*name.text()) {
                let shown: String = name.text().chars().take(64).collect();
                let known = MEMBERS.join(", ");
                self.add(name.source(), format!("unknown member {shown:?}; known are {known}"));
            }
        }
        for needed in ["type", "data"] {
            if root.member(needed).is_none() {
                self.add(root.source(), format!("{needed} is missing"));
            }
        }
        let event_type = self.text(root, "type", EventTypeId::parse);
        let id = self.text(root, "id", EventId::parse);
        let time = self.text(root, "time", moment);
        let environment = self.text(root, "environment", environment);
        let tenant = self.text(root, "tenant", TenantId::parse);
        let version = self.version(root);
        let attributes = self.attributes(root);
        let data = self.data(root);
        Some(NewEvent {
            tenant: tenant.or_else(|| TenantId::parse(Trial::TENANT).ok())?,
            id,
            version: version?,
            event_type: event_type?,
            environment: environment.unwrap_or(Environment::Live),
            occur_time: time,
            since: None,
            min_revision: 0,
            trace: None,
            terms: None,
            attributes,
            data: data?,
        })
    }

    /// A member that is a string, parsed; none where it is not there, or wrong.
    fn text<T>(
        &mut self,
        root: Node<'a>,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let node = root.member(name)?;
        let Some(text) = node.as_str() else {
            self.add(node.source(), format!("{name}: must be a string"));
            return None;
        };
        let wrong = |wrong: Wrong| {
            self.add(node.source(), format!("{name}: {}", wrong.description));
        };
        parse(&text).map_err(wrong).ok()
    }

    fn version(&mut self, root: Node<'a>) -> Option<u32> {
        const MOST: u32 = u32::MAX / 2;
        let Some(node) = root.member("version") else { return Some(0) };
        let number = match node.as_number() {
            Some(Number::Int(number)) => u32::try_from(number).ok(),
            Some(Number::Double(_)) | None => None,
        };
        let number = number.filter(|number| *number <= MOST);
        if number.is_none() {
            let rule = format!("version: must be a whole number from 0 to {MOST}");
            self.add(node.source(), rule);
        }
        number
    }

    fn attributes(&mut self, root: Node<'a>) -> Attributes {
        let Some(node) = root.member("attributes") else { return Attributes::new() };
        if node.kind() != Kind::Object {
            self.add(node.source(), "attributes: must be an object of strings");
            return Attributes::new();
        }
        let mut given = std::collections::HashMap::new();
        for (name, value) in node.members() {
            match value.as_str() {
                Some(text) => {
                    given.insert(name.text().into_owned(), text.into_owned());
                }
                None => {
                    let shown: String = name.text().chars().take(64).collect();
                    let rule = format!("attributes[{shown:?}]: must be a string");
                    self.add(value.source(), rule);
                }
            }
        }
        let mut wrong = Violations::new();
        let attributes = parse_attributes("attributes", given, &mut wrong);
        for violation in wrong.as_slice() {
            let rule = format!("{}: {}", violation.field, violation.description);
            self.add(node.source(), rule);
        }
        attributes
    }

    fn data(&mut self, root: Node<'a>) -> Option<bytes::Bytes> {
        let source = root.member("data")?.source();
        if source.len() > limits::EVENT_DATA_MAX {
            let most = limits::EVENT_DATA_MAX;
            self.add(source, format!("data: must be {most} bytes at most, is {}", source.len()));
            return None;
        }
        Some(bytes::Bytes::copy_from_slice(source))
    }
}

/// The time of RFC 3339 in a text.
pub fn moment(text: &str) -> Result<Timestamp, Wrong> {
    let rule = "must be a time such as 2022-10-26T22:36:41.600Z";
    Timestamp::parse(text).ok_or_else(|| Wrong::new(pregon_core::error::Rule::Malformed, rule))
}

fn environment(text: &str) -> Result<Environment, Wrong> {
    let named = Environment::ALL.iter().find(|it| it.word() == text);
    let rule = "must be LIVE or TEST";
    named.copied().ok_or_else(|| Wrong::new(pregon_core::error::Rule::Malformed, rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        read("e", text.as_bytes()).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_event_is_read_and_its_data_keep_their_bytes() {
        let data = r#"{"b": 1.0,  "a":["\u00f1"]}"#;
        let least = read("e", format!(r#" {{"data":{data} ,"type":"a.b"}} "#).as_bytes()).unwrap();
        assert_eq!((least.data.as_ref(), least.event_type.as_str()), (data.as_bytes(), "a.b"));
        assert_eq!((least.tenant.as_str(), least.version, least.id), ("acme", 0, None));
        assert_eq!((least.environment, least.occur_time), (Environment::Live, None));
        let all = r#"{"type":"a","data":null,"id":"e1","version":2,"time":"2026-01-01T00:00:00Z",
            "environment":"TEST","tenant":"t","attributes":{"k":"v"}}"#;
        let all = read("e", all.as_bytes()).unwrap();
        assert_eq!((all.id.unwrap().as_str(), all.version, &*all.data), ("e1", 2, &b"null"[..]));
        assert_eq!(all.occur_time.unwrap().millis(), 1_767_225_600_000);
        assert_eq!((all.tenant.as_str(), all.environment), ("t", Environment::Test));
        assert_eq!(all.attributes["k"], "v");
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let said = faults(
            "{\n\"typ\":1,\n\"type\":2,\n\"id\":\"\",\n\"version\":1.5,\n\"time\":\"noon\",\n\
             \"environment\":\"live\",\n\"tenant\":\"a b\",\n\"attributes\":{\"k\":1,\"K\":\"\"}}",
        );
        let begin = [
            "e:2:2: unknown member \"typ\"; known are type, data, id,",
            "e:1:1: data is missing",
            "e:3:8: type: must be a string",
            "e:4:6: id: must be ",
            "e:6:8: time: must be a time such as",
            "e:7:15: environment: must be LIVE or TEST",
            "e:8:10: tenant: must be ",
            "e:5:11: version: must be a whole number from 0 to 2147483647",
            "e:9:19: attributes[\"k\"]: must be a string",
            "e:9:14: attributes[\"K\"]: the key must be 1 to 32 of a-z 0-9 _",
        ];
        assert_eq!(said.len(), begin.len(), "{said:#?}");
        for (said, begin) in said.iter().zip(begin) {
            assert!(said.starts_with(begin), "{said} does not begin with {begin}");
        }
    }

    #[test]
    fn what_is_no_event_is_refused_with_its_place() {
        assert_eq!(faults("[]"), ["e:1:1: must be an object with type and data"]);
        assert_eq!(faults("{\n \"type\": }"), ["e:2:10: must be JSON: unexpected character"]);
        assert_eq!(faults(""), ["e:1:1: must be JSON: empty text"]);
        let long = format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(limits::EVENT_DATA_MAX));
        let said = faults(&long);
        assert!(said[0].starts_with("e:1:20: data: must be 1048576 bytes at most"), "{said:?}");
    }
}
