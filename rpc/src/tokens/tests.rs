use proptest::prelude::*;

use super::*;

fn grant(role: Role, tenants: Option<&str>, expires: Option<&str>) -> Grant {
    Grant {
        name: "ci".into(),
        role: role.word().into(),
        tenants: tenants.map(str::to_owned),
        expires: expires.map(str::to_owned),
    }
}

fn wrong(text: &str) -> String {
    text.parse::<Tokens>().unwrap_err()
}

const HASH: &str = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

#[test]
fn a_new_token_is_good_for_what_its_line_says() {
    let made = grant(Role::Viewer, Some("acme,globex"), Some("2027-01-31T00:00:00Z"))
        .issue(|bytes| bytes.fill(7))
        .unwrap();
    assert!(made.token.starts_with(PREFIX) && made.token.len() == PREFIX.len() + 43);
    assert!(!made.line.contains(&made.token[PREFIX.len()..]));
    assert!(!format!("{made:?}").contains(made.token.as_str()));

    let tokens: Tokens = made.line.parse().unwrap();
    let (_, entry) = tokens.find(made.token.as_bytes()).unwrap();
    assert_eq!((&**entry.caller.actor(), entry.caller.role()), ("ci", Some(Role::Viewer)));
    assert!(entry.caller.may_touch_named("tenants/globex").is_ok());
    assert!(entry.caller.may_touch_named("tenants/other").is_err());
    assert_eq!(entry.expires.unwrap().rfc3339(0), "2027-01-31T00:00:00Z");
    assert!(tokens.find(&made.token.as_bytes()[1..]).is_none());
    assert!(tokens.find(made.line.as_bytes()).is_none());
}

#[test]
fn a_wrong_grant_is_refused_with_every_rule() {
    let bad = Grant {
        name: "a b".into(),
        role: "boss".into(),
        tenants: Some("acme,-".into()),
        expires: Some("tomorrow".into()),
    };
    let rules = bad.issue(|_| {}).unwrap_err();
    assert_eq!(rules.len(), 4, "{rules:?}");
    for (rule, key) in rules.iter().zip(["name", "role", "tenants", "expires"]) {
        assert!(rule.starts_with(key), "{rule}");
    }
}

#[test]
fn wrong_lines_are_all_named_with_their_rules() {
    let text = format!(
        "# tokens\n\nname=ci role=publisher sha256={HASH} # fine\n\
         name=ci role=boss sha256={HASH}\n\
         role=viewer sha256=12\n\
         pregon_lost\n\
         name=a role=viewer sha256={HASH}\n\
         name=b name=c role=viewer sha256=pregon_lost tenants= expires=1"
    );
    let said = wrong(&text);
    for part in [
        "line 4: role must be one of admin, operator, tenant_manager, publisher, viewer, auditor;",
        "line 5: sha256 must be the SHA-256",
        "name must be set",
        "line 6: must be made of",
        "line 7: the token stands above already",
        "line 8: name must be given once, sha256 must be the hash",
        "tenants must be",
        "expires must be",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("lost") && !said.contains("boss"), "{said}");
    assert!(!said.contains("line 3"), "{said}");
}

#[test]
fn a_grant_that_ends_before_it_begins_is_refused() {
    let now = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
    let check = |expires| grant(Role::Viewer, None, expires).check_ahead(now);
    for ahead in [None, Some("2026-01-01T00:00:01Z"), Some("tomorrow")] {
        assert_eq!(check(ahead), Ok(()), "{ahead:?}");
    }
    for past in ["2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z", "2026-01-01T00:00:00+01:00"] {
        assert!(check(Some(past)).unwrap_err().contains("must lie ahead"), "{past}");
    }
}

#[test]
fn a_file_has_a_token_and_not_too_many() {
    for empty in ["", "\n\n", "# name=ci role=viewer"] {
        assert!(wrong(empty).contains("must hold a token"), "{empty}");
    }
    let lines = |count: usize| -> String {
        (0..count).map(|n| format!("name=n role=viewer sha256={n:064x}\n")).collect()
    };
    assert_eq!(lines(TOKENS).parse::<Tokens>().unwrap().0.len(), TOKENS);
    assert!(wrong(&lines(TOKENS + 1)).contains("4096 tokens at most"));
    let junk = "x\n".repeat(50);
    assert!(wrong(&junk).ends_with("and 40 more"));
}

proptest! {
    /// Whatever a file holds, it is read or refused, and nothing of it is shown.
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        let _ = text.parse::<Tokens>();
    }

    #[test]
    fn lines_of_near_the_right_form_are_read_or_refused(
        fields in prop::collection::vec(
            ("(name|role|sha256|tenants|expires|other)?", "=?", "[a-z0-9_,:.-]{0,70}"), 0..7)
    ) {
        let fields: Vec<_> = fields.iter().map(|(key, is, value)| format!("{key}{is}{value}")).collect();
        if let Err(said) = fields.join(" ").parse::<Tokens>() {
            prop_assert!(said.contains("must"), "{}", said);
        }
    }

    /// A token is found by itself and by nothing else.
    #[test]
    fn only_the_token_is_the_token(random in any::<[u8; RANDOM_LEN]>(), at in 0..50usize, byte in 1..=255u8) {
        let made = grant(Role::Publisher, None, None).issue(|bytes| bytes.copy_from_slice(&random)).unwrap();
        let tokens: Tokens = made.line.parse().unwrap();
        let mut near = made.token.as_bytes().to_vec();
        prop_assert!(tokens.find(&near).is_some());
        near[at] ^= byte;
        prop_assert!(tokens.find(&near).is_none());
    }
}
