//! What a query of Prometheus asks for, held against the list of metrics.
//!
//! Rules: a name and its labels are of the list; a word that a label is compared with is one that it can have; counters,
//! and with them all series of histograms, stand within `rate` or `increase`, and gauges do not; buckets stand below
//! `histogram_quantile`, which keeps `le`.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, AggregateExpr, Call, Expr, LabelModifier, VectorSelector};

use crate::harness::golden::{self, Part, Series};

/// The words of labels that have a closed list of them.
const WORDS: [(&str, &[&str]); 9] = [
    ("outcome", &["SUCCEEDED", "RETRY", "FAILED"]),
    (
        "error_class",
        &["NONE", "DNS", "CONNECT", "TLS", "TIMEOUT", "PROTOCOL", "STATUS", "DENIED", "LOCAL"],
    ),
    ("age", &["1m", "10m", "1h", "6h", "1d", "older"]),
    ("state", &["OPEN", "CLOSED", "PAUSED", "IDLE", "USED"]),
    ("signal", &["traces", "metrics", "logs"]),
    ("kind", &["TAKE", "DUE", "TAKE_OVER"]),
    ("environment", &["LIVE", "TEST"]),
    ("decision", &["ALLOWED", "DENIED"]),
    ("pregon_plane", &["control", "dataplane", "standalone"]),
];

/// What a query asks for.
pub struct Query {
    name: String,
    all: BTreeMap<String, Series>,
    metrics: BTreeSet<String>,
    kept: BTreeSet<String>,
}

/// Where in a query something stands.
#[derive(Clone, Copy, Default)]
struct Within {
    growth: bool,
    quantile: bool,
}

impl Query {
    /// Reads a query, which is named so where it is wrong.
    ///
    /// # Panics
    ///
    /// When it breaks a rule.
    pub fn read(name: &str, query: &str) -> Self {
        let expr = parser::parse(query).unwrap_or_else(|wrong| panic!("{name}: {wrong}: {query}"));
        let (metrics, kept) = <(BTreeSet<_>, BTreeSet<_>)>::default();
        let mut found = Self { name: name.to_owned(), all: golden::series(), metrics, kept };
        found.walk(&expr, Within::default());
        assert!(!found.metrics.is_empty(), "{name} asks for nothing: {query}");
        found
    }

    /// The metrics it is about, by their names for OpenTelemetry.
    pub fn metrics(&self) -> impl Iterator<Item = &str> {
        self.metrics.iter().map(String::as_str)
    }

    /// Whether an aggregation of it keeps this label.
    pub fn gives(&self, label: &str) -> bool {
        self.kept.contains(label)
    }

    /// The labels that all series below have; gives them.
    fn walk(&mut self, expr: &Expr, within: Within) -> BTreeSet<String> {
        match expr {
            Expr::Aggregate(aggregate) => self.aggregate(aggregate, within),
            Expr::Call(call) => self.call(call, within),
            Expr::Unary(unary) => self.walk(&unary.expr, within),
            Expr::Paren(paren) => self.walk(&paren.expr, within),
            Expr::Subquery(subquery) => self.walk(&subquery.expr, within),
            Expr::Binary(binary) => {
                let mut labels = self.walk(&binary.lhs, within);
                labels.extend(self.walk(&binary.rhs, within));
                let modifier = binary.modifier.as_ref();
                if let Some(matching) = modifier.and_then(|modifier| modifier.matching.as_ref()) {
                    self.known(matching, &labels);
                }
                labels
            }
            Expr::VectorSelector(selector) => {
                self.selector(selector, Within { growth: false, ..within })
            }
            Expr::MatrixSelector(matrix) => self.selector(&matrix.vs, within),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => BTreeSet::new(),
        }
    }

    fn aggregate(&mut self, aggregate: &AggregateExpr, within: Within) -> BTreeSet<String> {
        let below = self.walk(&aggregate.expr, within);
        let Some(modifier) = &aggregate.modifier else { return BTreeSet::new() };
        self.known(modifier, &below);
        assert!(modifier.is_include(), "{}: `by` says what is kept", self.name);
        let labels: BTreeSet<String> = modifier.labels().labels.iter().cloned().collect();
        self.kept.extend(labels.iter().cloned());
        labels
    }

    fn call(&mut self, call: &Call, within: Within) -> BTreeSet<String> {
        let growth = ["rate", "increase"].contains(&call.func.name);
        let quantile = call.func.name == "histogram_quantile";
        let within = Within { growth, quantile: within.quantile || quantile };
        let mut labels = BTreeSet::new();
        for argument in &call.args.args {
            labels.extend(self.walk(argument, within));
        }
        assert!(!quantile || labels.remove("le"), "{}: a quantile needs `le`", self.name);
        labels
    }

    fn selector(&mut self, selector: &VectorSelector, within: Within) -> BTreeSet<String> {
        let (query, name) = (&self.name, selector.name.as_deref().unwrap_or_default());
        let series = self.all.get(name);
        let series = series.unwrap_or_else(|| panic!("{query}: there is no series {name:?}"));
        let growing = series.part != Part::Gauge;
        assert_eq!(growing, within.growth, "{query}: rate or increase of {name}");
        let buckets = series.part == Part::Buckets;
        assert_eq!(buckets, within.quantile, "{query}: histogram_quantile of {name}");
        assert!(selector.matchers.or_matchers.is_empty(), "{query}: one set of conditions");
        for matcher in &selector.matchers.matchers {
            let known = series.labels.contains(&matcher.name);
            assert!(known, "{query}: {name} has no label {}", matcher.name);
            self.words(matcher);
        }
        self.metrics.insert(series.metric.clone());
        series.labels.iter().cloned().collect()
    }

    /// The words that a label is compared with are some that it can have.
    fn words(&self, matcher: &Matcher) {
        let Some((_, words)) = WORDS.iter().find(|(label, _)| *label == matcher.name) else {
            return;
        };
        let asked: Vec<_> = match matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => vec![matcher.value.as_str()],
            MatchOp::Re(_) | MatchOp::NotRe(_) => matcher.value.split('|').collect(),
        };
        for word in asked.into_iter().filter(|&word| word != ".*") {
            assert!(words.contains(&word), "{}: {} is never {word}", self.name, matcher.name);
        }
    }

    fn known(&self, modifier: &LabelModifier, below: &BTreeSet<String>) {
        for label in &modifier.labels().labels {
            assert!(below.contains(label), "{}: there is no label {label} here", self.name);
        }
    }
}

mod tests {
    use super::Query;

    /// Whether a query breaks a rule.
    fn refused(query: &str) -> bool {
        std::panic::catch_unwind(|| Query::read("a query", query)).is_err()
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        for (good, bad) in [
            ("sum(pregon_lanes)", "sum(pregon_lane)"),
            ("sum by (state) (pregon_lanes)", "sum by (age) (pregon_lanes)"),
            ("pregon_lanes{state=\"OPEN\"}", "pregon_lanes{state=\"OPENED\"}"),
            ("pregon_lanes{state=~\"OPEN|PAUSED\"}", "pregon_lanes{age=\"1m\"}"),
            ("rate(pregon_attempts_total[5m])", "pregon_attempts_total"),
            ("rate(pregon_attempts_total[5m])", "rate(pregon_attempts[5m])"),
            ("increase(pregon_attempts_total[5m])", "max_over_time(pregon_attempts_total[5m])"),
            ("max_over_time(pregon_lanes[5m])", "rate(pregon_lanes[5m])"),
            ("rate(pregon_claim_size_count[5m])", "rate(pregon_claim_size_bucket[5m])"),
            (
                "histogram_quantile(0.5, sum by (le) (rate(pregon_claim_size_bucket[5m])))",
                "histogram_quantile(0.5, sum by (kind) (rate(pregon_claim_size_bucket[5m])))",
            ),
            ("max(pregon_backlog_events) > 1", "max(pregon_backlog_events > "),
        ] {
            assert!(!refused(good), "{good}");
            assert!(refused(bad), "{bad}");
        }
    }
}
