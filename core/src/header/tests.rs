use proptest::prelude::*;

use super::*;

const CONTRACT: [&str; 2] = ["webhook-id", "webhook-signature"];

fn wrongs(headers: &[(&str, &str)]) -> Vec<(usize, Rule)> {
    match CustomHeaders::parse(headers.iter().copied(), &CONTRACT) {
        Ok(_) => Vec::new(),
        Err(wrongs) => wrongs.into_iter().map(|(index, wrong)| (index, wrong.rule)).collect(),
    }
}

#[test]
fn ordinary_headers_pass_as_given() {
    let given = [("Authorization", "Bearer a.b-c"), ("x-empty", ""), ("X_y!", "a \t b")];
    let headers = CustomHeaders::parse(given, &CONTRACT).unwrap();
    let kept: Vec<_> = headers.iter().map(|header| (header.name(), header.value())).collect();
    assert_eq!(kept, given);
}

#[test]
fn headers_of_the_connection_the_sender_and_the_contract_are_refused() {
    for name in HOP_BY_HOP.iter().chain(&OURS).chain(&CONTRACT) {
        for name in [name.to_string(), name.to_uppercase()] {
            assert_eq!(wrongs(&[(&name, "x")]), [(0, Rule::HeaderRefused)], "{name}");
        }
    }
    for name in ["Content-Type", "content-length", "CONTENT-", "content-anything"] {
        assert_eq!(wrongs(&[(name, "x")]), [(0, Rule::HeaderRefused)], "{name}");
    }
    assert_eq!(wrongs(&[("content", "x"), ("x-content-type", "x")]), []);
}

#[test]
fn malformed_names_and_values_are_refused() {
    assert_eq!(wrongs(&[("", "x")]), [(0, Rule::Required)]);
    for name in ["a b", "a:", "é", "a\n", "(a)", "\0", "a/b"] {
        assert_eq!(wrongs(&[(name, "x")]), [(0, Rule::HeaderRefused)], "{name:?}");
    }
    for value in [" a", "a ", "\ta", "a\r\nb: c", "a\0", "\u{7f}", "é", "\u{2028}", " "] {
        assert_eq!(wrongs(&[("x", value)]), [(0, Rule::HeaderRefused)], "{value:?}");
    }
}

#[test]
fn every_wrong_header_is_named() {
    let headers = [("host", "x"), ("x-a", "1"), ("X-A", "2"), ("", ""), ("x-b", "é")];
    let refused = Rule::HeaderRefused;
    assert_eq!(wrongs(&headers), [(0, refused), (2, refused), (3, Rule::Required), (4, refused)]);
}

#[test]
fn twenty_headers_of_4096_bytes_in_all() {
    let names: Vec<String> = (0..22).map(|i| format!("x-{i:02}")).collect();
    let some = |n: usize| names[..n].iter().map(|name| (name.as_str(), "v")).collect::<Vec<_>>();
    assert_eq!(wrongs(&some(20)), []);
    assert_eq!(wrongs(&some(22)), [(20, Rule::TooMany)]);

    let (fits, over) = ("v".repeat(4092), "v".repeat(4093));
    assert_eq!(wrongs(&[("x-00", &fits)]), []);
    assert_eq!(wrongs(&[("x-00", &over)]), [(0, Rule::TooLong)]);
    assert_eq!(wrongs(&[("x-00", &fits), ("x-01", ""), ("x-02", "")]), [(1, Rule::TooLong)]);
}

#[test]
fn values_are_never_printed() {
    let headers = CustomHeaders::parse([("x-key", "hunter2")], &[]).unwrap();
    assert!(!format!("{headers:?}").contains("hunter2"));
}

proptest! {
    #[test]
    fn what_passes_cannot_break_a_request(name in ".{0,12}", value in ".{0,24}") {
        if let Ok(headers) = CustomHeaders::parse([(&*name, &*value)], &CONTRACT) {
            let header = headers.iter().next().unwrap();
            prop_assert!(header.name().bytes().all(|b| b.is_ascii_graphic() && b != b':'));
            prop_assert!(header.value().bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)));
            prop_assert_eq!(header.value().trim(), header.value());
        }
    }

    #[test]
    fn tokens_and_visible_values_pass(name in "x-[!#$%&'*+.^_`|~0-9A-Za-z-]{0,20}", value in "[!-~]([ -~\t]{0,20}[!-~])?") {
        prop_assert!(CustomHeaders::parse([(&*name, &*value)], &CONTRACT).is_ok());
    }
}
