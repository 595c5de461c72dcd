//! Places of signatures, parameters of the URL, and the bodies that have them.

use super::refused;

#[test]
fn places_of_signatures_and_parameters() {
    let sign = |keys: &str| format!("signatures: [{{ algorithm: hmac_sha256, {keys} }}]");
    refused(&[
        (
            &sign("header: x-s, keys: newest, order: oldest_first"),
            &["2:74: signatures[0].order: is for keys all"],
        ),
        (
            &sign("body: s, separator: \";\""),
            &["2:60: signatures[0].separator: is for a signature in a header"],
        ),
        (
            &sign("body: s, query: s"),
            &["2:14: signatures[0]: must have one of header, body and query"],
        ),
        (
            &sign("body: \"a[x].b\""),
            &[
                "2:46: signatures[0].body: must be names of A-Z a-z 0-9 _ -, none of digits only, joined by full stops; an element of a list is name[0]",
            ],
        ),
        (
            &sign("header: \"x-${key.id}\""),
            &[
                "2:48: signatures[0].header: must be a header's name, and not one that the sender sets",
            ],
        ),
        (
            "signatures: [{ algorithm: sha256, header: x-s }]",
            &[
                "2:14: signatures[0]: a hash without the secret signs nothing: payload must name secret",
            ],
        ),
        (
            &format!("body_format: form\n{}", sign("body: a.b")),
            &["3:46: signatures[0].body: must be the name of a field: 1 to 64 of A-Z a-z 0-9 _ -"],
        ),
        (
            &format!("gzip: before_signing\n{}", sign("body: a")),
            &["2:7: gzip: before_signing leaves no place for a signature in the body"],
        ),
        ("gzip: yes", &["2:7: gzip: must be one of before_signing, after_signing"]),
        (
            "body_format: multipart\ncontent_type: multipart/form-data",
            &["3:15: content_type: is made by body_format multipart, with its boundary"],
        ),
        (
            "content_type: \"a/${request.body}\"",
            &[
                "2:15: content_type: ${request.body} cannot stand here: the body is known in headers and signatures only",
            ],
        ),
        (
            "url: { query: { id: \"${request.url}\" } }",
            &[
                "2:21: url.query.id: ${request.url} cannot stand here: the URL is known when its parameters are",
            ],
        ),
        ("url: { query: {} }", &["2:15: url.query: must be 1 to 20 parameters"]),
        (
            &format!("url: {{ query: {{ s: a }} }}\n{}", sign("query: s")),
            &["2:17: url.query.s: parameter s is set twice"],
        ),
        (
            "url: { query: { id: a } }\nbody: { a: \"${request.url}\" }",
            &[
                "1:1: with parameters in the URL, request.url is known in headers and signatures only",
            ],
        ),
    ]);
}
