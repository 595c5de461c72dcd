//! The dashboard and the alerts of `deploy/telemetry` ask for what there is: each of their queries is parsed, and every
//! name, label and word in it is held against the list of metrics; each alert has its page in docs/operations.md.

mod promql;

use std::collections::{BTreeMap, BTreeSet};

use pregon_core::yaml;
use serde_json::Value;

use crate::harness::{golden, root};

use promql::Query;

/// A rule of alerts.yaml.
struct Alert {
    name: String,
    query: String,
    severity: String,
    annotations: BTreeMap<String, String>,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/telemetry/grafana/pregon.json")).unwrap()
}

/// A document in YAML as JSON; all scalars are text.
fn plain(node: &yaml::Node) -> Value {
    match &node.value {
        yaml::Value::Map(pairs) => {
            pairs.iter().map(|(key, value)| (key.text.clone(), plain(value))).collect()
        }
        yaml::Value::List(list) => list.iter().map(plain).collect(),
        yaml::Value::Scalar { text, .. } => Value::String(text.clone()),
    }
}

fn alerts() -> Vec<Alert> {
    let document = plain(&yaml::read(&read("deploy/telemetry/prometheus/alerts.yaml")).unwrap());
    let groups = document["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rules
        .map(|rule| {
            let annotations = rule["annotations"].as_object().unwrap().iter();
            Alert {
                name: text(&rule["alert"]),
                query: text(&rule["expr"]),
                severity: text(&rule["labels"]["severity"]),
                annotations: annotations.map(|(key, value)| (key.clone(), text(value))).collect(),
            }
        })
        .collect()
}

/// The labels that a text names: `{{ $labels.instance }}` in an alert, `{{instance}}` in a legend.
fn named(text: &str, before: &str) -> Vec<String> {
    let parts = text.split("{{").skip(1).filter_map(|part| part.split_once("}}"));
    let labels = parts.filter_map(|(inside, _)| inside.trim().strip_prefix(before));
    labels.map(|label| label.trim().to_owned()).collect()
}

#[test]
fn every_alert_asks_for_what_there_is_and_names_its_page() {
    let pages = read("docs/operations.md");
    let alerts = alerts();
    assert!(alerts.len() >= 16, "{}", alerts.len());
    let names: BTreeSet<_> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    assert_eq!(names.len(), alerts.len(), "two alerts of one name");
    for Alert { name, query, severity, annotations } in &alerts {
        let query = Query::read(name, query);
        assert!(["critical", "warning"].contains(&severity.as_str()), "{name}: {severity}");
        let said: Vec<_> = annotations.keys().map(String::as_str).collect();
        assert_eq!(said, ["description", "runbook", "summary"], "{name}");
        for label in annotations.values().flat_map(|text| named(text, "$labels.")) {
            assert!(query.gives(&label), "{name}: the alert has no label {label}");
        }
        let page = format!("docs/operations.md#{}", name.to_lowercase());
        assert_eq!(annotations["runbook"], page, "{name}");
        let heading = format!("\n### {name}\n");
        assert_eq!(pages.matches(&heading).count(), 1, "{name} has no page in docs/operations.md");
    }
    for page in pages.lines().filter_map(|line| line.strip_prefix("### Pregon")) {
        assert!(names.contains(format!("Pregon{page}").as_str()), "no alert Pregon{page}");
    }
}

#[test]
fn every_panel_asks_for_what_there_is_and_every_metric_is_on_one() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels of one id");
    let mut shown = BTreeSet::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}: a panel without a query");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let query = Query::read(title, &filled(target["expr"].as_str().unwrap()));
            for label in named(target["legendFormat"].as_str().unwrap(), "") {
                assert!(query.gives(&label), "{title}: the query gives no label {label}");
            }
            shown.extend(query.metrics().map(str::to_owned));
        }
    }
    let all: BTreeSet<_> = golden::metrics().into_iter().map(|metric| metric.name).collect();
    assert_eq!(all.difference(&shown).collect::<Vec<_>>(), [] as [&String; 0], "on no panel");
}

#[test]
fn the_variables_of_the_dashboard_are_labels_that_there_are() {
    let dashboard = dashboard();
    let series = golden::series();
    let mut names = Vec::new();
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        names.push(variable["name"].as_str().unwrap());
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (selector, label) = inside.unwrap().rsplit_once(", ").unwrap();
        Query::read(query, &filled(selector));
        let metric = selector.split('{').next().unwrap();
        assert!(series[metric].labels.iter().any(|one| one == label), "{query}");
    }
    assert_eq!(names, ["datasource", "plane", "instance"]);
}

/// A query of the dashboard as Grafana would send it. A variable that it does not have stays, and is no PromQL.
fn filled(query: &str) -> String {
    let query = query.replace("$__rate_interval", "2m");
    let query = query.replace("\"$plane\"", "\".*\"").replace("\"$instance\"", "\".*\"");
    assert!(!query.contains('$'), "a variable that nobody fills: {query}");
    query
}
