//! Who called for what is written down: what was done, and every way to be refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pregon_core::clock::{Clock as _, SystemClock};
use pregon_proto::v1;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Grpcurl, World, eventually, raw};
use crate::on_both;
use crate::strangers::methods::{Api, Method, Ways, is_of_all, wanted};
use crate::strangers::{Token, guarded};

on_both!(
    every_method_tells_of_every_way_to_be_refused,
    a_flood_of_refused_calls_makes_few_entries,
    what_is_done_is_told_with_who_did_it,
    no_write_that_landed_is_untold_when_the_process_is_killed,
);

/// All entries that filters want, newest first, page by page.
async fn entries(grpc: &Grpcurl, filters: Value) -> Vec<Value> {
    let (mut all, mut request) = (Vec::new(), filters);
    request["page_size"] = json!(500);
    loop {
        let page = grpc.ok("AuditLogService/ListAuditEntries", request.clone()).await;
        all.extend(page["auditEntries"].as_array().expect("entries").clone());
        match page["nextPageToken"].as_str() {
            Some("") | None => return all,
            Some(token) => request["page_token"] = json!(token),
        }
    }
}

/// Makes an API key; its name and the key.
async fn key(grpc: &Grpcurl, fields: Value) -> (String, String) {
    let made = grpc.ok("ApiKeyService/CreateApiKey", json!({"api_key": fields})).await;
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    (text(&made["apiKey"]["name"]), text(&made["key"]))
}

fn reason(answer: &Result<Vec<u8>, Status>) -> Option<(Code, String)> {
    let status = answer.as_ref().err()?;
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    Some((status.code(), reason))
}

/// Whether an answer holds a refusal of one event of many.
fn tells(answer: &Result<Vec<u8>, Status>, reason: &str) -> bool {
    let part = reason.as_bytes();
    answer.as_ref().is_ok_and(|bytes| bytes.windows(part.len()).any(|it| it == part))
}

/// A credential, and for what calls with it are refused.
struct Way {
    credential: Option<String>,
    code: Code,
    reason: &'static str,
    /// Who is told to have called; none: nobody who is known.
    actor: Option<String>,
}

async fn every_method_tells_of_every_way_to_be_refused<W: World>() {
    let (admin, publisher) = (Token::of("admin").await, Token::of("publisher").await);
    let (pregon, _dir) = guarded::<W>(&[&admin, &publisher]).await;
    let grpc = pregon.grpcurl().with_token(&admin.token);
    for tenant in ["acme", "other"] {
        let create = json!({"tenant_id": tenant, "tenant": {}});
        grpc.ok("TenantService/CreateTenant", create).await;
    }
    let (ways, api) = (Ways::to(&pregon).await, Api::read());
    let call = async |path: &str, message: Vec<u8>, credential: Option<&str>| {
        raw::call(ways.of(path), path, message, credential).await
    };

    // Keys that have ended, each of a role that may call half of the methods.
    let (mut expired, mut revoked) = (BTreeMap::new(), BTreeMap::new());
    for role in ["ADMIN", "PUBLISHER"] {
        let fields = json!({"display_name": "short", "role": format!("API_KEY_ROLE_{role}")});
        let (name, secret) = key(&grpc, fields.clone()).await;
        grpc.ok("ApiKeyService/RevokeApiKey", json!({"name": name})).await;
        revoked.insert(role, (name, secret));
        let mut short = fields;
        let end = SystemClock.now().plus(Duration::from_secs(3));
        short["expire_time"] = json!(end.to_string());
        expired.insert(role, key(&grpc, short).await);
    }
    // A tenant's own, which reach no other.
    let mut bound = BTreeMap::new();
    for role in ["ADMIN", "PUBLISHER"] {
        let fields = json!({"role": format!("API_KEY_ROLE_{role}"), "tenants": ["tenants/acme"]});
        bound.insert(role, key(&grpc, fields).await);
    }
    // Until every process knows them, and the time of those that are short has passed.
    for (role, path) in [
        ("ADMIN", "/pregon.v1.TenantService/ListTenants"),
        ("PUBLISHER", "/pregon.v1.EventService/Publish"),
    ] {
        for (keys, wanted) in [
            (&expired, "CREDENTIAL_EXPIRED"),
            (&revoked, "CREDENTIAL_REVOKED"),
            (&bound, "TENANT_DENIED"),
        ] {
            eventually(&format!("{role} is refused as {wanted}"), || async {
                let request =
                    v1::PublishRequest { tenant: "tenants/other".into(), ..Default::default() };
                let answer = call(path, request.encode_to_vec(), Some(&keys[role].1)).await;
                match reason(&answer) {
                    Some((_, reason)) if reason == wanted => Ok(()),
                    other => Err(other),
                }
            })
            .await;
        }
    }

    let mut expected: BTreeSet<(String, String, String, String)> = BTreeSet::new();
    for Method { path, input } in &api.methods {
        let publishes = wanted(path) == "publisher";
        let role = if publishes { "PUBLISHER" } else { "ADMIN" };
        let (too_small, name) = match publishes {
            true => (&admin, "admin"),
            false => (&publisher, "publisher"),
        };
        let of = |(name, secret): &(String, String), code, reason| Way {
            credential: Some(secret.clone()),
            code,
            reason,
            actor: Some(name.clone()),
        };
        let mut all = vec![
            Way {
                credential: None,
                code: Code::Unauthenticated,
                reason: "CREDENTIAL_MISSING",
                actor: None,
            },
            Way {
                credential: Some(too_small.token.clone()),
                code: Code::PermissionDenied,
                reason: "ROLE_MISSING",
                actor: Some(name.to_owned()),
            },
            of(&expired[role], Code::Unauthenticated, "CREDENTIAL_EXPIRED"),
            of(&revoked[role], Code::Unauthenticated, "CREDENTIAL_REVOKED"),
        ];
        if names_a_tenant(path) {
            all.push(of(&bound[role], Code::PermissionDenied, "TENANT_DENIED"));
        }
        for way in all {
            let message = api.naming(input, "other", 0);
            let answer = call(path, message, way.credential.as_deref()).await;
            let refused = reason(&answer) == Some((way.code, way.reason.to_owned()));
            // One answer for each event of many: the refusal stands in it.
            let many = path.contains("PublishBatch") || path.contains("PublishStream");
            assert!(
                refused || (many && tells(&answer, way.reason)),
                "{path} {}: {answer:?}",
                way.reason
            );
            let known = way.code == Code::PermissionDenied;
            let code = if known { "PERMISSION_DENIED" } else { "UNAUTHENTICATED" };
            let actor = way.actor.unwrap_or_else(|| "anonymous".to_owned());
            let method = path.trim_start_matches('/').to_owned();
            expected.insert((method, code.to_owned(), way.reason.to_owned(), actor));
        }
    }
    println!("{} ways to be refused by {} methods", expected.len(), api.methods.len());

    let told = eventually("every refusal is told", || async {
        let told = entries(&grpc, json!({"outcome": "AUDIT_OUTCOME_REFUSED"})).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let found: BTreeSet<_> = told
            .iter()
            .map(|it| {
                (
                    text(&it["method"]),
                    text(&it["code"]),
                    text(&it["reason"]),
                    text(&it["actor"]["id"]),
                )
            })
            .collect();
        let missing: Vec<_> = expected.difference(&found).cloned().collect();
        if missing.is_empty() { Ok(told) } else { Err(missing) }
    })
    .await;
    for entry in &told {
        assert!(entry["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{entry}");
        assert_eq!(entry["changes"], json!([]), "{entry}");
        if entry["reason"] == "TENANT_DENIED" {
            // What it reached for, and whose credential it was.
            assert_eq!(entry["tenants"], json!(["tenants/acme"]), "{entry}");
            let named = entry["resource"].as_str().unwrap();
            let many = [
                "ListTenants",
                "NodeService",
                "MasterKeyService",
                "EventTypeService",
                "ContractService",
            ];
            let of_all = many.iter().any(|it| entry["method"].as_str().unwrap().contains(it));
            assert!(named.starts_with("tenants/other") || of_all, "{entry}");
        }
    }
}

/// Whether a method's request names a tenant, or it is closed to whoever is for some tenants only. What
/// everybody may know, and keys, which are below no tenant, are neither.
fn names_a_tenant(path: &str) -> bool {
    let shared = is_of_all(path) && wanted(path) == "auditor";
    !(shared || path.contains("ApiKeyService/"))
}

async fn a_flood_of_refused_calls_makes_few_entries<W: World>() {
    let admin = Token::of("admin").await;
    let (pregon, _dir) = guarded::<W>(&[&admin]).await;
    let grpc = pregon.grpcurl().with_token(&admin.token);
    let ways = Ways::to(&pregon).await;
    let path = "/pregon.v1.TenantService/ListTenants";
    for _ in 0..500 {
        let answer = raw::call(ways.of(path), path, Vec::new(), Some("pregon_nobody")).await;
        assert_eq!(answer.unwrap_err().code(), Code::Unauthenticated);
    }
    // A caller that is known, beyond the calls that it may make.
    let limits = json!({"calls_per_second": 1});
    let fields = json!({"display_name": "eager", "role": "API_KEY_ROLE_VIEWER", "limits": limits});
    let (name, secret) = key(&grpc, fields).await;
    eventually("the key is beyond its rate", || async {
        let answer = raw::call(ways.of(path), path, Vec::new(), Some(&secret)).await;
        match reason(&answer) {
            Some((Code::ResourceExhausted, reason)) if reason == "RATE_LIMITED" => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let told = eventually("both are told", || async {
        let told = entries(&grpc, json!({"outcome": "AUDIT_OUTCOME_REFUSED"})).await;
        let reasons: Vec<_> = told.iter().filter_map(|it| it["reason"].as_str()).collect();
        match reasons.contains(&"RATE_LIMITED") && reasons.contains(&"CREDENTIAL_INVALID") {
            true => Ok(told),
            false => Err(told),
        }
    })
    .await;
    let of = |reason: &str| told.iter().filter(|it| it["reason"] == reason).collect::<Vec<_>>();
    // One at once; the others of the same minute make one more when it is over.
    assert!((1..=2).contains(&of("CREDENTIAL_INVALID").len()), "{told:?}");
    let limited = of("RATE_LIMITED")[0];
    assert_eq!(limited["actor"]["id"], json!(name));
    assert_eq!(limited["actor"]["displayName"], "eager");
    assert_eq!(limited["code"], "RESOURCE_EXHAUSTED");
    assert!(!pregon.output().contains("pregon_nobody"));
}

async fn what_is_done_is_told_with_who_did_it<W: World>() {
    let admin = Token::of("admin").await;
    let (pregon, _dir) = guarded::<W>(&[&admin]).await;
    let plain = pregon.grpcurl();
    let grpc = plain.with_token(&admin.token);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traced = grpc.with_header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"));
    let create =
        json!({"tenant_id": "acme", "tenant": {"display_name": "Acme"}, "request_id": "r1"});
    let made = traced.ok("TenantService/CreateTenant", create).await;
    let fields = json!({
        "display_name": "erp team", "role": "API_KEY_ROLE_TENANT_MANAGER",
        "tenants": ["tenants/acme"],
    });
    let (name, secret) = key(&grpc, fields).await;
    let manager = plain.with_token(&secret);
    eventually("the key is known", || async {
        let get = json!({"name": "tenants/acme"});
        manager.call("TenantService/GetTenant", get).await.map_err(|it| it.to_string())
    })
    .await;
    let subscription = json!({
        "url": "http://127.0.0.1:9/hook", "event_types": ["*"],
        "headers": [{"name": "x-token", "value": "c4n4ry"}],
    });
    let create = json!({
        "parent": "tenants/acme", "subscription_id": "erp", "subscription": subscription,
    });
    manager.ok("SubscriptionService/CreateSubscription", create).await;
    let erp = "tenants/acme/subscriptions/erp";
    let paused = manager.ok("SubscriptionService/PauseSubscription", json!({"name": erp})).await;
    let secrets = manager.ok("SecretService/ListSecrets", json!({"parent": erp})).await;
    let signing = secrets["secrets"][0]["name"].as_str().expect("a secret").to_owned();
    let shown = manager.ok("SecretService/RevealSecret", json!({"name": signing})).await;

    // The manager sees its tenant's, newest first; reads are not told.
    let told = entries(&manager, json!({"actor": name})).await;
    let methods: Vec<_> = told.iter().map(|it| it["method"].as_str().unwrap()).collect();
    let method = |it: &str| format!("pregon.v1.{it}");
    assert_eq!(
        methods,
        [
            method("SecretService/RevealSecret"),
            method("SubscriptionService/PauseSubscription"),
            method("SubscriptionService/CreateSubscription"),
        ]
    );
    for entry in &told {
        let actor = json!({
            "kind": "AUDIT_ACTOR_KIND_API_KEY", "id": name, "displayName": "erp team",
        });
        assert_eq!(entry["actor"], actor);
        assert_eq!(entry["tenants"], json!(["tenants/acme"]));
        assert_eq!(
            (&entry["outcome"], &entry["code"]),
            (&json!("AUDIT_OUTCOME_DONE"), &json!("OK"))
        );
        assert!(entry["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{entry}");
    }
    assert_eq!((&told[0]["resource"], &told[0]["revision"]), (&json!(signing), &json!("0")));
    assert_eq!(told[1]["revision"], paused["revision"]);
    let side = |change: &Value, side: &str| -> Value {
        serde_json::from_str(change[side].as_str().expect("text")).expect("JSON")
    };
    let change = &told[1]["changes"][0];
    assert_eq!(change["resource"], json!(erp));
    assert_eq!(side(change, "before")["state"], "SUBSCRIPTION_STATE_ACTIVE");
    assert_eq!(side(change, "after")["state"], "SUBSCRIPTION_STATE_PAUSED");
    assert_eq!(side(change, "after")["headers"][0]["value"], "[masked]");

    // Of the admin's there are those of no tenant too, with trace and request.
    let request = json!({"resource": "tenants/acme", "method": "pregon.v1.TenantService"});
    let told = entries(&grpc, request).await;
    assert_eq!(told.len(), 1);
    let facts = (&told[0]["traceId"], &told[0]["requestId"], &told[0]["revision"]);
    assert_eq!(facts, (&json!(trace), &json!("r1"), &made["revision"]));
    assert_eq!(told[0]["actor"]["kind"], "AUDIT_ACTOR_KIND_TOKEN");

    // Each has its line in the log, and nowhere is what is secret.
    let all = entries(&grpc, json!({})).await;
    let output = pregon.output();
    for entry in &all {
        let id = entry["name"].as_str().unwrap().trim_start_matches("auditEntries/");
        assert_eq!(output.matches(id).count(), 1, "{id}: {output}");
    }
    let material = shown["material"].as_str().unwrap().trim_start_matches("whsec_");
    let text = format!("{}{output}", Value::Array(all));
    for hidden in ["c4n4ry", material, secret.splitn(3, '_').nth(2).unwrap(), &admin.token] {
        assert!(!text.contains(hidden), "{hidden}");
    }
}

async fn no_write_that_landed_is_untold_when_the_process_is_killed<W: World>() {
    let mut pregon = W::on_disk(&[]).await;
    for round in 0..3 {
        let grpc = pregon.grpcurl();
        let writes: Vec<_> = (0..4)
            .map(|writer| {
                let grpc = grpc.clone();
                tokio::spawn(async move {
                    for n in 0.. {
                        let id = format!("t-{round}-{writer}-{n}");
                        let create = json!({"tenant_id": id, "tenant": {}});
                        if grpc.call_unread("TenantService/CreateTenant", &create).await.is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        eventually("tenants are made", || async {
            let made = entries(&grpc, json!({"method": "pregon.v1.TenantService"})).await.len();
            if made >= 12 * (round + 1) { Ok(()) } else { Err(made) }
        })
        .await;
        pregon.kill().await;
        for writer in writes {
            writer.await.unwrap();
        }
        pregon.start_again().await;
    }
    let grpc = pregon.grpcurl();
    let (mut tenants, mut request) = (BTreeSet::new(), json!({"page_size": 1000}));
    loop {
        let page = eventually("the store answers", || async {
            let page = grpc.call("TenantService/ListTenants", request.clone()).await;
            page.map_err(|refused| refused.to_string())
        })
        .await;
        for tenant in page["tenants"].as_array().expect("tenants") {
            let name = tenant["name"].as_str().unwrap().to_owned();
            tenants.insert((name, tenant["revision"].as_str().unwrap().to_owned()));
        }
        match page["nextPageToken"].as_str() {
            Some("") | None => break,
            Some(token) => request["page_token"] = json!(token),
        }
    }
    let told = entries(&grpc, json!({"method": "pregon.v1.TenantService/CreateTenant"})).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found: BTreeSet<_> =
        told.iter().map(|it| (text(&it["resource"]), text(&it["revision"]))).collect();
    assert_eq!(found.len(), told.len(), "an entry for each");
    assert_eq!(found, tenants);
    println!("{} tenants, each with its entry", tenants.len());
}
