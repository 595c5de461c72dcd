//! Reads variables; what is wrong is gathered.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::{AttemptRecords, Ignored, Metrics, Queue, Target};
use crate::sampler::Sampler;

/// Longest part of a word that a warning quotes, in characters.
const QUOTED: usize = 64;

/// An hour: longer than anybody waits for an export.
const MS_MAX: usize = 3_600_000;

pub(super) struct Reader<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    pub(super) wrong: Vec<String>,
    pub(super) ignored: Vec<Ignored>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { get, wrong: Vec::new(), ignored: Vec::new() }
    }

    fn refuse(&mut self, name: &str, rule: impl std::fmt::Display) {
        self.wrong.push(format!("{name}: {rule}"));
    }

    /// Notes a word that is not known here; a variable of several signals is noted once.
    fn ignore(&mut self, name: &str, value: &str, instead: &'static str) {
        let value = value.chars().filter(|c| !c.is_control()).take(QUOTED).collect();
        let ignored = Ignored { variable: name.to_owned(), value, instead };
        if !self.ignored.contains(&ignored) {
            self.ignored.push(ignored);
        }
    }

    /// A variable; one that is empty counts as not set, as the specification asks.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let text = (self.get)(name)?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// The one of a signal, else the common one, and which of them it is.
    fn of_signal(&self, signal: &str, what: &str) -> Option<(String, String)> {
        let (own, common) =
            (format!("OTEL_EXPORTER_OTLP_{signal}_{what}"), format!("OTEL_EXPORTER_OTLP_{what}"));
        let found = self.text(&own).map(|text| (own, text));
        found.or_else(|| self.text(&common).map(|text| (common, text)))
    }

    pub(super) fn flag(&mut self, name: &str) -> bool {
        match self.text(name) {
            None => false,
            Some(text) => self.truth(name, &text),
        }
    }

    fn truth(&mut self, name: &str, text: &str) -> bool {
        match text.to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            _ => {
                self.refuse(name, "must be true or false");
                false
            }
        }
    }

    pub(super) fn number(&mut self, name: &str, least: usize, most: usize) -> Option<usize> {
        let text = self.text(name)?;
        match text.parse() {
            Ok(number) if (least..=most).contains(&number) => Some(number),
            _ => {
                self.refuse(name, format_args!("must be a whole number from {least} to {most}"));
                None
            }
        }
    }

    fn millis(&mut self, name: &str, default: Duration) -> Duration {
        let given = self.number(name, 1, MS_MAX);
        given.map_or(default, |ms| Duration::from_millis(ms as u64))
    }

    /// `key=value` pairs between commas, values percent-encoded (W3C Baggage).
    pub(super) fn pairs(&mut self, name: &str) -> Vec<(String, String)> {
        let text = self.text(name).unwrap_or_default();
        self.parse_pairs(name, &text)
    }

    fn parse_pairs(&mut self, name: &str, text: &str) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            let decoded =
                |part: &str| percent_decode_str(part.trim()).decode_utf8().map(Into::into);
            let parts = pair.split_once('=').filter(|(key, _)| !key.trim().is_empty());
            match parts.map(|(key, value)| (decoded(key), decoded(value))) {
                Some((Ok(key), Ok(value))) => pairs.push((key, value)),
                // Not the text itself: headers may hold credentials.
                _ => self.refuse(name, "must be key=value pairs between commas, percent-encoded"),
            }
        }
        pairs
    }

    pub(super) fn propagate(&mut self) -> bool {
        let name = "OTEL_PROPAGATORS";
        let Some(text) = self.text(name) else { return true };
        let mut on = false;
        for word in text.split(',').map(str::trim) {
            match word {
                "tracecontext" => on = true,
                "baggage" | "none" | "" => {} // baggage comes with the specification's default
                other => self.ignore(name, other, "only tracecontext is spoken"),
            }
        }
        on
    }

    pub(super) fn sampler(&mut self) -> Sampler {
        let (name, arg) = ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG");
        let Some(text) = self.text(name) else { return Sampler::default() };
        let (parent_based, kind) = match text.strip_prefix("parentbased_") {
            Some(kind) => (true, kind),
            None => (false, text.as_str()),
        };
        let ratio = match kind {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => match self.text(arg).map(|it| it.parse::<f64>()) {
                None => 1.0,
                Some(Ok(ratio)) if (0.0..=1.0).contains(&ratio) => ratio,
                Some(_) => {
                    self.refuse(arg, "must be a number from 0 to 1");
                    1.0
                }
            },
            _ => {
                self.ignore(name, &text, "parentbased_always_on samples");
                return Sampler::default();
            }
        };
        Sampler { parent_based, ratio }
    }

    pub(super) fn queue(&mut self, prefix: &str) -> Queue {
        let default = Queue::default();
        let name = |what: &str| format!("{prefix}_{what}");
        let len = self.number(&name("MAX_QUEUE_SIZE"), 1, 1_000_000).unwrap_or(default.len);
        let batch = name("MAX_EXPORT_BATCH_SIZE");
        let given = self.number(&batch, 1, 100_000);
        if given.is_some_and(|it| it > len) {
            self.refuse(&batch, format_args!("must not be above the queue's size, {len}"));
        }
        Queue {
            len,
            batch: given.unwrap_or(default.batch).min(len),
            delay: self.millis(&name("SCHEDULE_DELAY"), default.delay),
            timeout: self.millis(&name("EXPORT_TIMEOUT"), default.timeout),
        }
    }

    pub(super) fn metrics(&mut self, target: Target) -> Metrics {
        let temporality = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        let delta = match self.text(temporality).map(|it| it.to_ascii_lowercase()).as_deref() {
            None | Some("cumulative") => false,
            Some("delta") => true,
            Some(other) => {
                self.ignore(temporality, other, "sums are cumulative");
                false
            }
        };
        let interval = self.millis("OTEL_METRIC_EXPORT_INTERVAL", Duration::from_secs(60));
        let timeout = self.millis("OTEL_METRIC_EXPORT_TIMEOUT", Duration::from_secs(30));
        Metrics { target, interval, timeout, delta }
    }

    pub(super) fn attempts(&mut self) -> AttemptRecords {
        let name = "PREGON_OTEL_ATTEMPTS";
        match self.text(name).as_deref() {
            None | Some("all") => AttemptRecords::All,
            Some("sampled") => AttemptRecords::Sampled,
            Some(_) => {
                self.refuse(name, "must be all or sampled");
                AttemptRecords::All
            }
        }
    }

    /// Where a signal goes, if it is to leave.
    pub(super) fn target(&mut self, signal: &str) -> Option<Target> {
        let endpoint = self.of_signal(signal, "ENDPOINT");
        if !self.exports(signal, endpoint.is_some()) || !self.speaks(signal) {
            return None;
        }
        let insecure = match self.of_signal(signal, "INSECURE") {
            None => false,
            Some((name, text)) => self.truth(&name, &text),
        };
        let headers = match self.of_signal(signal, "HEADERS") {
            None => Vec::new(),
            Some((name, text)) => self.parse_pairs(&name, &text),
        };
        let timeout = match self.of_signal(signal, "TIMEOUT") {
            None => Duration::from_secs(10),
            Some((name, _)) => self.millis(&name, Duration::from_secs(10)),
        };
        Some(Target {
            endpoint: self.endpoint(endpoint, insecure),
            headers,
            timeout,
            gzip: self.gzip(signal),
            certificate: self.of_signal(signal, "CERTIFICATE").map(|(_, path)| path.into()),
            client: self.client(signal),
        })
    }

    /// Whether a signal is to leave by OTLP.
    fn exports(&mut self, signal: &str, endpoint: bool) -> bool {
        let name = format!("OTEL_{signal}_EXPORTER");
        let Some(text) = self.text(&name) else { return endpoint };
        let words = || text.split(',').map(str::trim);
        let otlp = words().any(|word| word == "otlp");
        let instead = if otlp { "only otlp is served" } else { "the signal is off" };
        for word in words().filter(|word| !["otlp", "none", ""].contains(word)) {
            self.ignore(&name, word, instead);
        }
        otlp
    }

    /// Whether a signal's protocol is spoken. Where it is not, its endpoint speaks another one too.
    fn speaks(&mut self, signal: &str) -> bool {
        match self.of_signal(signal, "PROTOCOL") {
            Some((name, text)) if text != "grpc" => {
                self.ignore(&name, &text, "only grpc is spoken, the signal is off");
                false
            }
            Some(_) | None => true,
        }
    }

    /// With its scheme; one without is secure unless it is said not to be.
    fn endpoint(&mut self, given: Option<(String, String)>, insecure: bool) -> String {
        let Some((name, text)) = given else { return "http://localhost:4317".to_owned() };
        let url = match (text.contains("://"), insecure) {
            (true, _) => text,
            (false, true) => format!("http://{text}"),
            (false, false) => format!("https://{text}"),
        };
        let known = url.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        });
        if !known {
            self.refuse(&name, "must be an http or https URL, or host:port");
        }
        url
    }

    fn gzip(&mut self, signal: &str) -> bool {
        match self.of_signal(signal, "COMPRESSION") {
            None => false,
            Some((_, text)) if text == "none" => false,
            Some((_, text)) if text == "gzip" => true,
            Some((name, text)) => {
                self.ignore(&name, &text, "exports are not compressed");
                false
            }
        }
    }

    fn client(&mut self, signal: &str) -> Option<(PathBuf, PathBuf)> {
        let certificate = self.of_signal(signal, "CLIENT_CERTIFICATE");
        match (certificate, self.of_signal(signal, "CLIENT_KEY")) {
            (None, None) => None,
            (Some((_, certificate)), Some((_, key))) => Some((certificate.into(), key.into())),
            (Some((name, _)), None) => {
                self.refuse(&name, "needs OTEL_EXPORTER_OTLP_CLIENT_KEY beside it");
                None
            }
            (None, Some((name, _))) => {
                self.refuse(&name, "needs OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE beside it");
                None
            }
        }
    }
}
