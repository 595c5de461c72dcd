//! OTLP as the collector writes it, in lines of JSON, read into small types.
//!
//! What is not of the form panics with the line: the collector is the one who writes it. Fields that are at their default
//! are left out there, and are that default here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

/// Attributes: values as JSON has them, integers as numbers.
pub type Attributes = BTreeMap<String, Value>;

/// What a span is to the call it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not said.
    Unspecified,
    /// Work of the process itself.
    Internal,
    /// A call that was taken.
    Server,
    /// A call that was made.
    Client,
    /// Work that was left for later.
    Producer,
    /// Work that had been left.
    Consumer,
}

/// How a span ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not said, as it is meant to be where nothing went wrong.
    Unset,
    /// Well, by word of the sender.
    Ok,
    /// Not well, and why.
    Error(String),
}

/// Another span that one belongs to without being below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Its trace, in hex.
    pub trace_id: String,
    /// Its id, in hex.
    pub span_id: String,
    /// What the link says.
    pub attributes: Attributes,
}

/// A moment within a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What happened.
    pub name: String,
    /// When, in nanoseconds since 1970.
    pub time: u64,
    /// What is known of it.
    pub attributes: Attributes,
}

/// A span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its trace, in hex.
    pub trace_id: String,
    /// Its id, in hex.
    pub span_id: String,
    /// The id of the one above.
    pub parent: Option<String>,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// When it began, in nanoseconds since 1970.
    pub start: u64,
    /// When it ended, likewise.
    pub end: u64,
    /// What it says.
    pub attributes: Attributes,
    /// What it belongs to besides.
    pub links: Vec<Link>,
    /// What happened in it.
    pub events: Vec<Event>,
    /// How it ended.
    pub status: Status,
    /// Attributes of the process that made it.
    pub resource: Arc<Attributes>,
}

impl Span {
    /// How long it took.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.end.saturating_sub(self.start))
    }

    /// The process that made it: `service.name`, and the plane where it says one.
    pub fn service(&self) -> String {
        let name = text(&self.resource, "service.name").unwrap_or("?");
        let plane = text(&self.resource, "pregon.plane");
        plane.map_or_else(|| name.to_owned(), |plane| format!("{name}/{plane}"))
    }
}

/// A log record.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    /// When it happened, in nanoseconds since 1970.
    pub time: u64,
    /// How grave it is, as a word.
    pub severity: String,
    /// The name of what happened; empty where it has none.
    pub event_name: String,
    /// What it says.
    pub body: Value,
    /// The trace it belongs to.
    pub trace_id: Option<String>,
    /// The span it belongs to.
    pub span_id: Option<String>,
    /// What it says besides.
    pub attributes: Attributes,
    /// Attributes of the process that made it.
    pub resource: Arc<Attributes>,
}

/// What a point of a metric says.
#[derive(Clone, Debug, PartialEq)]
pub enum Measure {
    /// How much there is.
    Gauge(f64),
    /// How much there has been, all counted up since the start.
    Counter(f64),
    /// Sums of any other kind.
    Sum(f64),
    /// How values are spread.
    Histogram {
        /// How many there were.
        count: u64,
        /// Their sum.
        sum: f64,
        /// Upper bounds of the buckets.
        bounds: Vec<f64>,
        /// How many fell into each; one more than bounds.
        buckets: Vec<u64>,
    },
}

/// One point of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The metric.
    pub name: String,
    /// Its unit, as OpenTelemetry writes it.
    pub unit: String,
    /// What it means.
    pub help: String,
    /// The labels.
    pub attributes: Attributes,
    /// When it was taken, in nanoseconds since 1970.
    pub time: u64,
    /// What it says.
    pub measure: Measure,
    /// Attributes of the process that made it.
    pub resource: Arc<Attributes>,
}

impl Point {
    /// Whether it is of this metric and has at least these labels.
    pub fn is(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        let has = |(key, value): &(&str, &str)| text(&self.attributes, key) == Some(*value);
        self.name == name && labels.iter().all(has)
    }

    /// Its number, or how many values a histogram has.
    pub fn number(&self) -> f64 {
        match &self.measure {
            Measure::Gauge(number) | Measure::Counter(number) | Measure::Sum(number) => *number,
            // Exact up to 2^53, which no test counts to.
            Measure::Histogram { count, .. } => *count as f64,
        }
    }
}

/// An attribute that is a text.
pub fn text<'a>(attributes: &'a Attributes, key: &str) -> Option<&'a str> {
    attributes.get(key).and_then(Value::as_str)
}

/// The spans of a file.
pub fn spans(lines: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    each(lines, ["resourceSpans", "scopeSpans", "spans"], |span, resource| {
        spans.push(Span {
            trace_id: string(&span["traceId"]),
            span_id: string(&span["spanId"]),
            parent: id(&span["parentSpanId"]),
            name: string(&span["name"]),
            kind: kind(&span["kind"]),
            start: integer(&span["startTimeUnixNano"]),
            end: integer(&span["endTimeUnixNano"]),
            attributes: attributes(&span["attributes"]),
            links: list(&span["links"]).iter().map(link).collect(),
            events: list(&span["events"]).iter().map(event).collect(),
            status: status(&span["status"]),
            resource: Arc::clone(resource),
        });
    });
    spans
}

/// The log records of a file.
pub fn logs(lines: &str) -> Vec<LogRecord> {
    let mut logs = Vec::new();
    each(lines, ["resourceLogs", "scopeLogs", "logRecords"], |log, resource| {
        logs.push(LogRecord {
            time: integer(&log["timeUnixNano"]),
            severity: string(&log["severityText"]),
            event_name: string(&log["eventName"]),
            body: value(&log["body"]),
            trace_id: id(&log["traceId"]),
            span_id: id(&log["spanId"]),
            attributes: attributes(&log["attributes"]),
            resource: Arc::clone(resource),
        });
    });
    logs
}

/// The metric points of a file, in their order.
pub fn points(lines: &str) -> Vec<Point> {
    let mut points = Vec::new();
    each(lines, ["resourceMetrics", "scopeMetrics", "metrics"], |metric, resource| {
        let (form, data) = ["gauge", "sum", "histogram"]
            .iter()
            .find_map(|form| metric.get(form).map(|data| (*form, data)))
            .unwrap_or_else(|| panic!("a metric of a form that nobody reads here: {metric}"));
        for point in list(&data["dataPoints"]) {
            points.push(Point {
                name: string(&metric["name"]),
                unit: string(&metric["unit"]),
                help: string(&metric["description"]),
                attributes: attributes(&point["attributes"]),
                time: integer(&point["timeUnixNano"]),
                measure: measure(form, data, point),
                resource: Arc::clone(resource),
            });
        }
    });
    points
}

/// Walks a file down to the items of a signal; each comes with its resource.
fn each(lines: &str, path: [&str; 3], mut take: impl FnMut(&Value, &Arc<Attributes>)) {
    for line in lines.lines() {
        let request: Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("the collector wrote no JSON: {error}: {line}"));
        assert!(request[path[0]].is_array(), "no {}: {line}", path[0]);
        for of_resource in list(&request[path[0]]) {
            let resource = Arc::new(attributes(&of_resource["resource"]["attributes"]));
            for of_scope in list(&of_resource[path[1]]) {
                list(&of_scope[path[2]]).iter().for_each(|item| take(item, &resource));
            }
        }
    }
}

fn measure(form: &str, data: &Value, point: &Value) -> Measure {
    if form == "histogram" {
        return Measure::Histogram {
            count: integer(&point["count"]),
            sum: point["sum"].as_f64().unwrap_or_default(),
            bounds: list(&point["explicitBounds"]).iter().filter_map(Value::as_f64).collect(),
            buckets: list(&point["bucketCounts"]).iter().map(integer).collect(),
        };
    }
    let number = match (&point["asDouble"], &point["asInt"]) {
        (Value::Number(double), _) => double.as_f64().unwrap_or_default(),
        (_, int) => string(int).parse().unwrap_or_default(),
    };
    // 2 is cumulative.
    let counts_up = data["isMonotonic"] == true && data["aggregationTemporality"] == 2;
    match form {
        "gauge" => Measure::Gauge(number),
        _ if counts_up => Measure::Counter(number),
        _ => Measure::Sum(number),
    }
}

fn link(link: &Value) -> Link {
    let (trace_id, span_id) = (string(&link["traceId"]), string(&link["spanId"]));
    Link { trace_id, span_id, attributes: attributes(&link["attributes"]) }
}

fn event(event: &Value) -> Event {
    let (name, time) = (string(&event["name"]), integer(&event["timeUnixNano"]));
    Event { name, time, attributes: attributes(&event["attributes"]) }
}

fn kind(kind: &Value) -> Kind {
    match kind.as_u64().unwrap_or_default() {
        0 => Kind::Unspecified,
        1 => Kind::Internal,
        2 => Kind::Server,
        3 => Kind::Client,
        4 => Kind::Producer,
        5 => Kind::Consumer,
        other => panic!("no kind of spans: {other}"),
    }
}

fn status(status: &Value) -> Status {
    match status["code"].as_u64().unwrap_or_default() {
        0 => Status::Unset,
        1 => Status::Ok,
        2 => Status::Error(string(&status["message"])),
        other => panic!("no status of spans: {other}"),
    }
}

fn attributes(list_of: &Value) -> Attributes {
    let pair = |pair: &Value| (string(&pair["key"]), value(&pair["value"]));
    list(list_of).iter().map(pair).collect()
}

/// A value without the name of its type.
fn value(any: &Value) -> Value {
    let Some((form, inner)) = any.as_object().and_then(|object| object.iter().next()) else {
        return Value::Null;
    };
    match form.as_str() {
        "intValue" => string(inner).parse::<i64>().expect("a number in text").into(),
        "arrayValue" => list(&inner["values"]).iter().map(value).collect(),
        "kvlistValue" => attributes(&inner["values"]).into_iter().collect(),
        _ => inner.clone(),
    }
}

fn id(value: &Value) -> Option<String> {
    Some(string(value)).filter(|id| !id.is_empty())
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// 64 bits, which JSON has as text.
fn integer(value: &Value) -> u64 {
    if value.is_null() {
        return 0;
    }
    let read = value.as_str().map_or_else(|| value.as_u64(), |text| text.parse().ok());
    read.unwrap_or_else(|| panic!("no number: {value}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests;
