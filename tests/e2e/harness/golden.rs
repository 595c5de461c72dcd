//! The metrics that Pregón has, from `tests/golden/metrics.txt`, and what Prometheus calls their series.

use std::collections::BTreeMap;

/// Labels of every series, made of the resource: `job` of `service.name` (with `service.namespace`), `instance` of
/// `service.instance.id`, and the plane because deploy/telemetry/collector.yaml says so.
pub const COMMON: [&str; 3] = ["instance", "job", "pregon_plane"];

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How much there is.
    Gauge,
    /// How much there has been.
    Counter,
    /// How values are spread.
    Histogram,
}

/// A metric of the list.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Its name for OpenTelemetry.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its unit for OpenTelemetry.
    pub unit: String,
    /// Its own labels for OpenTelemetry.
    pub labels: Vec<String>,
}

/// What of a metric a series of Prometheus carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A gauge.
    Gauge,
    /// A counter, or a histogram's count or sum.
    Counter,
    /// The buckets of a histogram.
    Buckets,
}

/// A series of Prometheus.
#[derive(Clone, Debug)]
pub struct Series {
    /// The metric it is of, by its name for OpenTelemetry.
    pub metric: String,
    /// What it carries of it.
    pub part: Part,
    /// Its labels, those of all series with them.
    pub labels: Vec<String>,
}

/// The list.
pub fn metrics() -> Vec<Metric> {
    let path = super::root().join("tests/golden/metrics.txt");
    let text = std::fs::read_to_string(path).expect("the list of metrics is there");
    text.lines().map(metric).collect()
}

/// Every series of the list by its name for Prometheus.
pub fn series() -> BTreeMap<String, Series> {
    metrics().iter().flat_map(Metric::series).collect()
}

fn metric(line: &str) -> Metric {
    let mut words = line.splitn(5, ' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("five columns: {line:?}"));
    let (name, kind, unit, labels, help) = (word(), word(), word(), word(), word());
    assert!(help.ends_with('.'), "a sentence explains it: {line:?}");
    let kind = match kind {
        "gauge" => Kind::Gauge,
        "counter" => Kind::Counter,
        "histogram" => Kind::Histogram,
        other => panic!("no kind of metrics: {other}"),
    };
    let labels = labels.split(',').filter(|&label| label != "-").map(str::to_owned).collect();
    Metric { name: name.to_owned(), kind, unit: unit.to_owned(), labels }
}

impl Metric {
    /// What the collector's Prometheus exporter makes of it; a story holds this against the exporter.
    pub fn series(&self) -> Vec<(String, Series)> {
        let unit = match self.unit.as_str() {
            "s" => "_seconds",
            "By" => "_bytes",
            // Units in braces are remarks.
            remark if remark.starts_with('{') => "",
            other => panic!("nobody knows what becomes of the unit {other:?}"),
        };
        let base = format!("{}{unit}", underscored(&self.name));
        let mut labels: Vec<String> = self.labels.iter().map(|label| underscored(label)).collect();
        labels.extend(COMMON.map(str::to_owned));
        let with = |suffix: &str, part, more: &[&str]| {
            let mut labels = labels.clone();
            labels.extend(more.iter().map(|&label| label.to_owned()));
            (format!("{base}{suffix}"), Series { metric: self.name.clone(), part, labels })
        };
        match self.kind {
            Kind::Gauge => vec![with("", Part::Gauge, &[])],
            Kind::Counter => vec![with("_total", Part::Counter, &[])],
            Kind::Histogram => vec![
                with("_bucket", Part::Buckets, &["le"]),
                with("_count", Part::Counter, &[]),
                with("_sum", Part::Counter, &[]),
            ],
        }
    }
}

fn underscored(name: &str) -> String {
    name.replace('.', "_")
}
