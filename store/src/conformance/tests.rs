//! That no case is forgotten: what is written is what the macro runs.

/// Every module of cases, with its text.
const MODULES: &[(&str, &str)] = &[
    ("audit", include_str!("audit.rs")),
    ("backlog", include_str!("backlog.rs")),
    ("cancel", include_str!("cancel.rs")),
    ("changes", include_str!("changes.rs")),
    ("config", include_str!("config.rs")),
    ("deliveries", include_str!("deliveries.rs")),
    ("ends", include_str!("ends.rs")),
    ("erase", include_str!("erase.rs")),
    ("events", include_str!("events.rs")),
    ("fan_out", include_str!("fan_out.rs")),
    ("histories", include_str!("histories.rs")),
    ("lane_log", include_str!("lane_log.rs")),
    ("lanes", include_str!("lanes.rs")),
    ("large", include_str!("large.rs")),
    ("nodes", include_str!("nodes.rs")),
    ("publish", include_str!("publish.rs")),
    ("replay", include_str!("replay.rs")),
    ("restart", include_str!("restart.rs")),
    ("retry", include_str!("retry.rs")),
    ("second", include_str!("second.rs")),
    ("settle", include_str!("settle.rs")),
    ("split", include_str!("split.rs")),
    ("take", include_str!("take.rs")),
    ("take_over", include_str!("take_over.rs")),
    ("test_sends", include_str!("test_sends.rs")),
    ("watch", include_str!("watch.rs")),
];

#[test]
fn every_case_that_is_written_is_run() {
    let suite = include_str!("../conformance.rs");
    for (module, text) in MODULES {
        let start = suite.find(&format!("\n            {module} [")).expect("the module's list");
        let list: Vec<&str> =
            suite[start..].lines().skip(2).map(str::trim).take_while(|line| *line != "]").collect();
        let written: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("pub async fn "))
            .filter_map(|line| line.split('(').next())
            .collect();
        assert_eq!(list, written, "cases of {module}, in the order of the file");
    }
}
