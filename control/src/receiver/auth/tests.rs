use super::*;

#[test]
fn credentials_are_refused_without_being_repeated() {
    let kind = |kind| Some(v1::Auth { kind: Some(kind), ca_pem: "x".into(), ..Default::default() });
    let basic = v1::BasicAuth {
        username: "a:b".into(),
        password: "hush\u{7}".into(),
        ..Default::default()
    };
    let bearer =
        v1::BearerAuth { token: format!("hush {}", "x".repeat(9000)), ..Default::default() };
    let api_key = v1::ApiKeyAuth {
        header: "Content-Type".into(),
        value: " hush".into(),
        ..Default::default()
    };
    let oauth2 = v1::Oauth2Auth {
        token_url: "https://user@auth.example/".into(),
        client_id: "a\nb".into(),
        client_secret: "hush\n".into(),
        scopes: vec!["send".into(), "two words".into()],
        audience: "x".repeat(513),
        style: 9,
        ..Default::default()
    };
    use v1::auth::Kind;
    for (given, expected) in [
        (kind(Kind::Basic(basic)), vec!["basic.password", "basic.username", "ca_pem"]),
        (kind(Kind::Bearer(bearer)), vec!["bearer.token", "ca_pem"]),
        (kind(Kind::ApiKey(api_key)), vec!["api_key.header", "api_key.value", "ca_pem"]),
        (
            kind(Kind::Oauth2(oauth2)),
            vec![
                "ca_pem",
                "oauth2.audience",
                "oauth2.client_id",
                "oauth2.client_secret",
                "oauth2.scopes[1]",
                "oauth2.style",
                "oauth2.token_url",
            ],
        ),
        (kind(Kind::Mtls(v1::MtlsAuth::default())), vec!["ca_pem", "mtls.certificate_pem"]),
    ] {
        let mut wrong = Violations::new();
        AuthEdit::parse("subscription", given.as_ref(), &mut wrong);
        let mut fields: Vec<_> = wrong.as_slice().iter().map(|it| it.field.as_str()).collect();
        fields.sort_unstable();
        let expected: Vec<_> =
            expected.iter().map(|path| format!("subscription.auth.{path}")).collect();
        assert_eq!(fields, expected);
        assert!(!format!("{wrong:?}").contains("hush"));
    }
}

#[test]
fn a_credential_may_be_left_out() {
    let mut wrong = Violations::new();
    let kind =
        v1::auth::Kind::ApiKey(v1::ApiKeyAuth { header: "X-Key".into(), ..Default::default() });
    let given = v1::Auth { kind: Some(kind), ..Default::default() };
    let edit = AuthEdit::parse("callback", Some(&given), &mut wrong).unwrap();
    assert_eq!(
        edit.identity(),
        Identity { kind: AuthKind::ApiKey, header: Some("X-Key"), tls: None, token_url: None }
    );
    let none = AuthEdit::parse("callback", None, &mut wrong).unwrap();
    assert!(matches!(none.way, Way::None) && none.trust.is_public());
    assert!(wrong.is_empty());
}
