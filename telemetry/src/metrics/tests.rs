use super::catalogue;

/// The names, units and labels that dashboards and alerts rely on.
const GOLDEN: &str = include_str!("../../../tests/golden/metrics.txt");

#[test]
fn the_catalogue_is_the_golden_file() {
    let mut lines = String::new();
    for entry in catalogue() {
        let labels = match entry.labels {
            [] => "-".to_owned(),
            labels => labels.join(","),
        };
        let words = [entry.name, entry.kind, entry.unit, &labels, entry.help];
        lines.push_str(&words.join(" "));
        lines.push('\n');
    }
    assert_eq!(lines, GOLDEN, "tests/golden/metrics.txt");
}
