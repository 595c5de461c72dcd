//! The contracts that come with Pregón, as documents: what can be seen without rendering them.

use std::fs;
use std::path::Path;

use super::*;
use crate::schema::Schema;

const BUILT_IN: [(&str, usize, usize); 8] = [
    ("cloudevents", 0, 2),
    ("cloudevents_binary", 0, 3),
    ("crypto_onramp", 6, 6),
    ("mercadopago_wallet_connect", 2, 3),
    ("operator", 2, 2),
    ("preauth", 3, 3),
    ("standard_webhooks", 0, 2),
    ("tusfacturas", 4, 5),
];

#[test]
fn every_built_in_contract_reads_and_its_examples_fit_their_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts");
    let documents = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let documents = documents.filter(|path| path.extension().is_some_and(|it| it == "yaml"));
    assert_eq!(documents.count(), BUILT_IN.len());
    for (name, types, examples) in BUILT_IN {
        let text = fs::read_to_string(folder.join(name).with_extension("yaml")).unwrap();
        let document = read(&text).unwrap_or_else(|fault| panic!("{name}.yaml:{fault}"));
        assert_eq!(text_of(&document, "contract"), name);
        let schemas: Vec<_> = list(&document, "types").iter().map(schema).collect();
        assert_eq!((schemas.len(), list(&document, "examples").len()), (types, examples), "{name}");
        for example in list(&document, "examples") {
            let event = member(example, "event").unwrap();
            let data = text_of(event, "data").as_bytes();
            json::check(data, 64).unwrap();
            json::check(text_of(member(example, "expect").unwrap(), "body").as_bytes(), 64)
                .unwrap();
            let of_type = schemas.iter().find(|(name, _)| *name == text_of(event, "type"));
            assert_eq!(of_type.is_some(), types > 0, "{name}: a type that is not there");
            if let Some((_, schema)) = of_type {
                assert_eq!(schema.validate(data), Ok(()), "{name}");
            }
        }
    }
}

fn schema(one: &Node) -> (&str, Schema) {
    let schema = Schema::compile(text_of(one, "schema")).unwrap();
    assert_eq!(schema.validate(text_of(one, "example").as_bytes()), Ok(()));
    assert!(!text_of(one, "description").is_empty());
    (text_of(one, "type"), schema)
}

fn member<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    let Value::Map(members) = &node.value else {
        return None;
    };
    members.iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
}

fn text_of<'a>(node: &'a Node, name: &str) -> &'a str {
    match member(node, name).and_then(Node::typed) {
        Some(Typed::Text(text)) => text,
        other => panic!("{name} is {other:?}"),
    }
}

fn list<'a>(node: &'a Node, name: &str) -> &'a [Node] {
    match member(node, name).map(|node| &node.value) {
        Some(Value::List(elements)) => elements,
        _ => &[],
    }
}
