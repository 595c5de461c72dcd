use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A tree of JSON, as deep as a document may be at most.
fn json_tree() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        text().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::vec((text(), inner), 0..5)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{0,6}", "[ -~]{0,8}", any::<String>(), Just("true".to_owned())]
}

fn agrees(node: &Node, tree: &serde_json::Value) -> bool {
    use serde_json::Value as Tree;
    match (&node.value, tree) {
        (Value::Map(members), Tree::Object(theirs)) => {
            members.len() == theirs.len()
                && members
                    .iter()
                    .all(|(key, value)| theirs.get(&key.text).is_some_and(|t| agrees(value, t)))
        }
        (Value::List(elements), Tree::Array(theirs)) => {
            elements.len() == theirs.len() && elements.iter().zip(theirs).all(|(e, t)| agrees(e, t))
        }
        (Value::Scalar { .. }, tree) => match (node.typed(), tree) {
            (Some(Typed::Null), Tree::Null) => true,
            (Some(Typed::Bool(value)), Tree::Bool(theirs)) => value == *theirs,
            (Some(Typed::Number(text)), Tree::Number(theirs)) => text == theirs.to_string(),
            (Some(Typed::Text(text)), Tree::String(theirs)) => text == theirs,
            _ => false,
        },
        _ => false,
    }
}

/// Pieces that mean something in YAML, in any order.
fn yaml_like() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b: ", "- ", "? ", ": ", ":", "\n", "\n  ", "\n    ", "{", "}", "[", "]", ",", "&x ",
        "*x ", "!t ", "!!str ", "|", ">-", "|2", "\"", "'", "\\", "#", " #", "%", "---", "...",
        "\n---\n", "<<", "~", "1", "${", "é", "😀", "\r\n", "\\u0041", "@", "`", "null", "\n\n",
        "|+\n",
    ]);
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

/// Whether a place is one of the text's, the one behind it included.
fn is_inside(text: &str, line: usize, column: usize) -> bool {
    let lines: Vec<_> = text.split('\n').collect();
    line >= 1
        && column >= 1
        && (line == lines.len() + 1
            || lines.get(line - 1).is_some_and(|l| column <= l.chars().count() + 1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_is_read_or_refused_at_one_of_its_places(text in prop_oneof![yaml_like(), any::<String>()]) {
        if let Err(fault) = read(&text) {
            prop_assert!(is_inside(&text, fault.line, fault.column), "{:?}: {}", text, fault);
            prop_assert!(!fault.text.contains("cannot be read as YAML"), "{:?}", text);
        }
    }

    #[test]
    fn a_tree_written_as_json_reads_back(tree in json_tree()) {
        for text in [tree.to_string(), serde_json::to_string_pretty(&tree).unwrap()] {
            match read(&text) {
                Ok(node) => prop_assert!(agrees(&node, &tree), "{}", text),
                // What JSON may hold raw and nobody can see.
                Err(_) => prop_assert!(source::check_characters(&text).is_err(), "{}", text),
            }
        }
    }

    #[test]
    fn json_reads_the_same_as_yaml(tree in json_tree()) {
        let text = tree.to_string();
        // A comment keeps it from being JSON, so that it goes the other way.
        let yaml = read(&format!("{text} # note"));
        if let (Ok(node), Ok(yaml)) = (read(&text), yaml) {
            prop_assert_eq!(node, yaml);
        }
    }

    #[test]
    fn durations_read_back(seconds in any::<u64>()) {
        let duration = Duration::from_secs(seconds);
        prop_assert_eq!(duration::parse(&duration::show(duration)), Some(duration));
    }
}
