//! What is kept and printed of a request: what came, under which contract, and what is said of it.
//!
//! A request is a stranger's text: on a terminal, control characters are escaped, so that it cannot
//! move the cursor or recolour what stands around it.

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use pregon_core::clock::Timestamp;
use serde_json::json;

use super::behaviour::{Ending, Plan};
use super::verify::{Judgement, Verdict};

/// One request as it was received, and what is done with it.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Counts requests from 1.
    pub number: usize,
    /// When its body was complete.
    pub time: Timestamp,
    /// Its method.
    pub method: Method,
    /// Its path and query, as sent.
    pub uri: Uri,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; empty if it was larger than a MiB, which was answered with 413.
    pub body: Bytes,
    /// What verification says, and under which contract.
    pub judgement: Judgement,
    /// What is done with it.
    pub plan: Plan,
}

impl Receipt {
    /// Its `webhook-id`, if it has one.
    pub fn webhook_id(&self) -> Option<&str> {
        self.headers.get("webhook-id")?.to_str().ok()
    }

    /// What verification says, in one word.
    pub fn verdict(&self) -> Verdict {
        self.judgement.verdict
    }

    /// The name of the contract that it was verified under.
    pub fn contract(&self) -> &str {
        self.judgement.contract.id().as_str()
    }

    /// What is done with it, in one word: the status, or `DRIP`, `HANG`, `CLOSE`.
    pub fn answer(&self) -> String {
        match self.plan.ending {
            Ending::Answer => self.plan.status.as_u16().to_string(),
            Ending::Drip => "DRIP".to_owned(),
            Ending::Hang => "HANG".to_owned(),
            Ending::Close => "CLOSE".to_owned(),
        }
    }

    /// One line of JSON: `number`, `time`, `method`, `path`, `headers` (an object; repeated ones
    /// joined by `, `), `webhook_id` (or null), `contract`, `verdict`, `signatures` (in words),
    /// `answer`, and the body as `body` where it is UTF-8, else as `body_base64`.
    pub fn to_json(&self) -> String {
        let mut line = json!({
            "number": self.number,
            "time": self.time.rfc3339(3),
            "method": self.method.as_str(),
            "path": self.uri.to_string(),
            "headers": self.joined_headers(),
            "webhook_id": self.webhook_id(),
            "contract": self.contract(),
            "verdict": self.verdict(),
            "signatures": self.judgement.details(),
            "answer": self.answer(),
        });
        match std::str::from_utf8(&self.body) {
            Ok(text) => line["body"] = text.into(),
            Err(_) => line["body_base64"] = STANDARD.encode(&self.body).into(),
        }
        line.to_string()
    }

    fn joined_headers(&self) -> serde_json::Map<String, serde_json::Value> {
        let joined = |name| {
            let values: Vec<_> = self
                .headers
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect();
            values.join(", ")
        };
        self.headers.keys().map(|name| (name.to_string(), joined(name).into())).collect()
    }
}

/// Several lines for people: what came and what is said of it, headers, body.
impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, time, method, uri, .. } = self;
        let (uri, answer, verdict) = (escaped(&uri.to_string()), self.answer(), self.verdict());
        writeln!(f, "{time}  #{number}  {method} {uri}  {verdict}, answered {answer}")?;
        match self.judgement.details() {
            details if details.is_empty() => writeln!(f, "  contract {}", self.contract())?,
            details => writeln!(f, "  contract {}: {details}", self.contract())?,
        }
        for (name, value) in &self.headers {
            let value = escaped(&String::from_utf8_lossy(value.as_bytes()));
            writeln!(f, "    {name}: {value}")?;
        }
        match std::str::from_utf8(&self.body) {
            Ok("") => Ok(()),
            Ok(text) => text.lines().try_for_each(|line| writeln!(f, "    {}", escaped(line))),
            Err(_) => writeln!(f, "    ({} bytes that are not UTF-8)", self.body.len()),
        }
    }
}

/// The text with its control characters (and those that turn the direction of writing) escaped.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                let _ = write!(out, "{}", c.escape_unicode());
            }
            _ if c.is_control() => out.extend(c.escape_default()),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use pregon_core::contract::verify::Finding;

    use super::super::behaviour::{Script, plan};
    use super::super::verify::Contracts;
    use super::*;

    fn receipt(body: &'static [u8]) -> Receipt {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "e1".parse().unwrap());
        headers.append("x-twice", "a".parse().unwrap());
        headers.append("x-twice", "b".parse().unwrap());
        Receipt {
            number: 3,
            time: Timestamp::from_millis(1_666_823_801_600),
            method: Method::POST,
            uri: "/status/503?a=b".parse().unwrap(),
            headers,
            body: Bytes::from_static(body),
            judgement: Judgement {
                contract: Contracts::default().get(None).unwrap().clone(),
                verdict: Verdict::WrongSignature,
                signatures: vec![("v1".into(), Finding::Wrong), ("v1a".into(), Finding::Missing)],
            },
            plan: plan(&Script::default(), "/status/503", 2, 0),
        }
    }

    #[test]
    fn a_line_of_json_has_everything() {
        let line = receipt(b"{\"a\":\n1}").to_json();
        assert!(!line.contains('\n'));
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            read,
            json!({
                "number": 3, "time": "2022-10-26T22:36:41.600Z", "method": "POST",
                "path": "/status/503?a=b", "headers": {"webhook-id": "e1", "x-twice": "a, b"},
                "webhook_id": "e1", "contract": "standard_webhooks",
                "verdict": "WRONG_SIGNATURE", "signatures": "v1 wrong, v1a missing",
                "answer": "503",
                "body": "{\"a\":\n1}",
            })
        );
        let read: serde_json::Value = serde_json::from_str(&receipt(b"\xff").to_json()).unwrap();
        assert_eq!((&read["body_base64"], &read["body"]), (&json!("/w=="), &json!(null)));
    }

    #[test]
    fn text_for_people_shows_no_control_characters() {
        let text = receipt("{\n  \"a\": \"\u{1b}[2J\u{202e}ñ\"\n}".as_bytes()).to_string();
        assert_eq!(
            text,
            "2022-10-26T22:36:41.600Z  #3  POST /status/503?a=b  WRONG_SIGNATURE, answered 503\n  \
             contract standard_webhooks: v1 wrong, v1a missing\n    webhook-id: e1\n    x-twice: a\n    x-twice: b\n    {\n      \"a\": \
             \"\\u{1b}[2J\\u{202e}ñ\"\n    }\n"
        );
    }

    #[test]
    fn what_is_not_answered_has_a_word() {
        for (path, word) in [("/hang", "HANG"), ("/close", "CLOSE"), ("/drip", "DRIP")] {
            let mut receipt = receipt(b"");
            receipt.plan = plan(&Script::default(), path, 0, 0);
            assert_eq!(receipt.answer(), word);
        }
        assert_eq!(receipt(b"").plan.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
