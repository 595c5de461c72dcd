"""What examples of senders of development, content and work expect.

Each function is one contract: example → body, headers, signed texts by name. A content type is
among the headers if it is not JSON's.
"""

import json
import urllib.parse

from .pieces import (
    DELIVERY,
    SUBSCRIPTION,
    b64mac,
    b64url,
    contract,
    hexmac,
    hs256,
    json_parts,
    mac,
    members_behind,
    obj,
    parts,
    rfc3339,
    sha256,
    standard,
    stringify,
    text,
)


@contract
def github(e):
    return (
        e.data,
        {
            "X-GitHub-Event": e.type,
            "X-GitHub-Delivery": e.id,
            "X-GitHub-Hook-ID": SUBSCRIPTION,
            "X-Hub-Signature": "sha1=" + hexmac(e.key, e.data, "sha1"),
            "X-Hub-Signature-256": "sha256=" + hexmac(e.key, e.data),
        },
        {"sha1": e.data, "sha256": e.data},
    )


@contract
def gitlab(e):
    return (
        e.data,
        {
            "X-Gitlab-Event": e.attributes["hook"],
            "X-Gitlab-Webhook-UUID": SUBSCRIPTION,
            "X-Gitlab-Event-UUID": e.id,
            "X-Gitlab-Instance": "https://gitlab.example.com",
            "Idempotency-Key": e.id,
        },
        {},
    )


@contract
def bitbucket(e):
    return (
        e.data,
        {
            "X-Event-Key": e.type.replace(".", ":"),
            "X-Hook-UUID": SUBSCRIPTION,
            "X-Request-UUID": e.id,
            "X-Attempt-Number": str(e.attempt),
            "X-Hub-Signature": "sha256=" + hexmac(e.key, e.data),
        },
        {"sha256": e.data},
    )


@contract
def linear(e):
    body = obj(
        ("action", text(e.parts[1])),
        ("type", text(e.parts[0])),
        ("createdAt", text(rfc3339(e.when))),
        ("data", e.data),
        ("organizationId", text(e.tenant)),
        ("webhookTimestamp", str(e.at_ms)),
        ("webhookId", text(SUBSCRIPTION)),
    )
    return (
        body,
        {
            "Linear-Delivery": e.id,
            "Linear-Event": e.parts[0],
            "Linear-Signature": hexmac(e.key, body),
        },
        {"hmac": body},
    )


@contract
def vercel(e):
    body = obj(
        ("id", text(e.id)),
        ("type", text(e.type)),
        ("createdAt", str(e.ms)),
        ("payload", e.data),
        ("region", "null"),
    )
    return body, {"x-vercel-signature": hexmac(e.key, body, "sha1")}, {"hmac": body}


@contract
def trello(e):
    webhook = obj(
        ("id", text(SUBSCRIPTION)),
        ("idModel", text(e.json()["model"]["id"])),
        ("active", "true"),
        ("callbackURL", text(e.url)),
    )
    body = members_behind(e.data, f'"webhook":{webhook}')
    return body, {"X-Trello-Webhook": b64mac(e.key, body + e.url, "sha1")}, {"hmac": body + e.url}


@contract
def asana(e):
    body = obj(("events", f"[{e.data}]"))
    return body, {"X-Hook-Signature": hexmac(e.key, body)}, {"hmac": body}


@contract
def dropbox(e):
    accounts, users = json_parts(e, "accounts", "users")
    body = obj(("list_folder", obj(("accounts", accounts))), ("delta", obj(("users", users))))
    return body, {"X-Dropbox-Signature": hexmac(e.key, body)}, {"hmac": body}


@contract
def dropbox_sign(e):
    signed = f"{e.s}{e.type}"
    metadata = obj(
        ("related_signature_id", "null"),
        ("reported_for_account_id", text(e.tenant)),
        ("reported_for_app_id", "null"),
        ("event_message", "null"),
    )
    event = obj(
        ("event_time", text(str(e.s))),
        ("event_type", text(e.type)),
        ("event_hash", text(hexmac(e.key, signed))),
        ("event_metadata", metadata),
    )
    body, kind = parts(("json", obj(("event", event), ("signature_request", e.data))))
    return body, {"content-type": kind}, {"event_hash": signed}


@contract
def docusign(e):
    body = obj(
        ("event", text(e.type)),
        ("apiVersion", '"v2.1"'),
        ("uri", text(f"/restapi/v2.1/accounts/{e.tenant}/envelopes/{e.json()['envelopeId']}")),
        ("retryCount", str(e.attempt - 1)),
        ("configurationId", text(SUBSCRIPTION)),
        ("generatedDateTime", text(rfc3339(e.when, 7))),
        ("data", e.data),
    )
    return (
        body,
        {"X-Authorization-Digest": "HMACSHA256", "X-DocuSign-Signature-1": b64mac(e.key, body)},
        {"hmac": body},
    )


@contract
def typeform(e):
    body = obj(("event_id", text(e.id)), ("event_type", text(e.type)), ("form_response", e.data))
    return body, {"Typeform-Signature": "sha256=" + b64mac(e.key, body)}, {"sha256": body}


@contract
def contentful(e):
    names = "x-contentful-signed-headers,x-contentful-timestamp,x-contentful-topic"
    headers = f"x-contentful-signed-headers:{names};x-contentful-timestamp:{e.at_ms};x-contentful-topic:{e.type}"
    signed = f"POST\n{urllib.parse.urlsplit(e.url).path}\n{headers}\n{e.data}"
    return (
        e.data,
        {
            "content-type": "application/vnd.contentful.management.v1+json",
            "X-Contentful-Topic": e.type,
            "X-Contentful-Webhook-Name": SUBSCRIPTION,
            "X-Contentful-Timestamp": str(e.at_ms),
            "X-Contentful-Signed-Headers": names,
            "X-Contentful-Signature": hexmac(e.key, signed),
        },
        {"hmac": signed},
    )


@contract
def sanity(e):
    signed = f"{e.at_ms}.{e.data}"
    return (
        e.data,
        {
            "idempotency-key": e.id,
            "sanity-transaction-id": e.id,
            "sanity-project-id": e.tenant,
            "sanity-dataset": "production",
            "sanity-webhook-signature": f"t={e.at_ms},v1=" + b64url(mac(e.key, signed).digest()),
        },
        {"v1": signed},
    )


@contract
def shopify(e):
    return (
        e.data,
        {
            "X-Shopify-Topic": e.type.replace(".", "/"),
            "X-Shopify-Shop-Domain": f"{e.tenant}.myshopify.com",
            "X-Shopify-API-Version": "2026-01",
            "X-Shopify-Webhook-Id": e.id,
            "X-Shopify-Event-Id": e.id,
            "X-Shopify-Triggered-At": rfc3339(e.when, 9),
            "X-Shopify-Hmac-SHA256": b64mac(e.key, e.data),
        },
        {"hmac": e.data},
    )


@contract
def hubspot(e):
    event = obj(
        ("subscriptionType", text(e.type)),
        ("occurredAt", str(e.ms)),
        ("attemptNumber", str(e.attempt - 1)),
    )
    body = f"[{members_behind(event, e.inner())}]"
    signed = f"POST{e.url}{body}{e.at_ms}"
    return (
        body,
        {
            "X-HubSpot-Request-Timestamp": str(e.at_ms),
            "X-HubSpot-Signature-v3": b64mac(e.key, signed),
        },
        {"v3": signed},
    )


@contract
def xero(e):
    event = obj(
        ("eventType", text(e.parts[1])),
        ("eventCategory", text(e.parts[0])),
        ("eventDateUtc", text(rfc3339(e.when).removesuffix("Z"))),
        ("tenantId", text(e.tenant)),
    )
    body = obj(
        ("events", f"[{members_behind(event, e.inner())}]"),
        ("firstEventSequence", "1"),
        ("lastEventSequence", "1"),
        ("entropy", text(sha256(e.id).hexdigest()[:20].upper())),
    )
    return body, {"x-xero-signature": b64mac(e.key, body)}, {"hmac": body}


@contract
def easypost(e):
    when = text(rfc3339(e.when, 0))
    body = obj(
        ("id", text(e.id)),
        ("object", '"Event"'),
        ("mode", '"production"'),
        ("description", text(e.type)),
        ("previous_attributes", "null"),
        ("pending_urls", "[]"),
        ("completed_urls", "[]"),
        ("created_at", when),
        ("updated_at", when),
        ("result", e.data),
    )
    return body, {"X-Hmac-Signature": "hmac-sha256-hex=" + hexmac(e.key, body)}, {"hmac": body}


@contract
def mux(e):
    body = obj(
        ("type", text(e.type)),
        ("request_id", "null"),
        ("object", obj(("type", text(e.parts[1])), ("id", text(e.json()["id"])))),
        ("id", text(e.id)),
        ("environment", obj(("name", '"Production"'), ("id", text(e.tenant)))),
        ("data", e.data),
        ("created_at", text(rfc3339(e.when, 6))),
        ("attempts", "[]"),
    )
    signed = f"{e.at}.{body}"
    return body, {"Mux-Signature": f"t={e.at},v1={hexmac(e.key, signed)}"}, {"v1": signed}


@contract
def twitch(e):
    condition, event = json_parts(e, "condition", "event")
    subscription = obj(
        ("id", text(SUBSCRIPTION)),
        ("status", '"enabled"'),
        ("type", text(e.type)),
        ("version", '"1"'),
        ("condition", condition),
        ("transport", obj(("method", '"webhook"'), ("callback", text(e.url)))),
        ("created_at", text(rfc3339(e.when, 9))),
        ("cost", "0"),
    )
    body = obj(("subscription", subscription), ("event", event))
    at = rfc3339(e.sent, 9)
    signed = f"{e.id}{at}{body}"
    return (
        body,
        {
            "Twitch-Eventsub-Message-Id": e.id,
            "Twitch-Eventsub-Message-Retry": str(e.attempt - 1),
            "Twitch-Eventsub-Message-Type": "notification",
            "Twitch-Eventsub-Message-Timestamp": at,
            "Twitch-Eventsub-Subscription-Type": e.type,
            "Twitch-Eventsub-Subscription-Version": "1",
            "Twitch-Eventsub-Message-Signature": "sha256=" + hexmac(e.key, signed),
        },
        {"sha256": signed},
    )


@contract
def workos(e):
    body = stringify({"id": e.id, "event": e.type, "data": e.json(), "created_at": rfc3339(e.when)})
    signed = f"{e.at_ms}.{body}"
    return body, {"WorkOS-Signature": f"t={e.at_ms}, v1={hexmac(e.key, signed)}"}, {"v1": signed}


@contract
def clerk(e):
    body = obj(
        ("data", e.data),
        ("event_attributes", '{"http_request":{"client_ip":"","user_agent":""}}'),
        ("instance_id", text(e.tenant)),
        ("object", '"event"'),
        ("timestamp", str(e.ms)),
        ("type", text(e.type)),
    )
    return standard(e, body, "svix")


@contract
def okta(e):
    when = text(rfc3339(e.when))
    event = obj(
        ("uuid", text(e.id)), ("published", when), ("eventType", text(e.type)), ("version", '"0"')
    )
    body = obj(
        ("eventType", '"com.okta.event_hook"'),
        ("eventTypeVersion", '"1.0"'),
        ("cloudEventsVersion", '"0.1"'),
        ("source", text(f"https://{e.tenant}.okta.com/api/v1/eventHooks/{SUBSCRIPTION}")),
        ("eventId", text(e.id)),
        ("data", obj(("events", f"[{members_behind(event, e.inner())}]"))),
        ("eventTime", when),
        ("contentType", '"application/json"'),
    )
    return body, {}, {}


@contract
def onfido(e):
    body = obj(
        (
            "payload",
            obj(("resource_type", text(e.parts[0])), ("action", text(e.type)), ("object", e.data)),
        )
    )
    return body, {"X-SHA2-Signature": hexmac(e.key, body)}, {"hmac": body}


@contract
def inngest(e):
    event = {"id": e.id, "name": e.type, "data": e.json(), "ts": e.ms}
    whole = {
        "version": 1,
        "use_api": False,
        "event": event,
        "events": [event],
        "steps": {},
        "ctx": {
            "run_id": DELIVERY,
            "attempt": e.attempt - 1,
            "disable_immediate_execution": False,
            "stack": {"stack": [], "current": 0},
        },
    }
    # The names of these are ASCII, so that Python's order is the canonical form's.
    body = stringify(json.loads(json.dumps(whole, sort_keys=True)))
    signed = f"{body}{e.at}"
    return (
        body,
        {
            "X-Inngest-Server-Kind": "cloud",
            "X-Inngest-Signature": f"t={e.at}&s={hexmac(e.key, signed)}",
        },
        {"s": signed},
    )


@contract
def qstash(e):
    claims = obj(
        ("iss", '"Upstash"'),
        ("sub", text(e.url)),
        ("exp", str(e.at + 300)),
        ("nbf", str(e.at)),
        ("iat", str(e.at)),
        ("jti", text("jwt_" + sha256(e.id).hexdigest())),
        ("body", text(b64url(sha256(e.data).digest()))),
    )
    signed, token = hs256(e, claims)
    return (
        e.data,
        {"Upstash-Message-Id": e.id, "Upstash-Retried": "0", "Upstash-Signature": token},
        {"jwt": signed},
    )


@contract
def microsoft_graph(e):
    resource, data = json_parts(e, "resource", "resourceData")
    notice = obj(
        ("subscriptionId", text(SUBSCRIPTION)),
        ("subscriptionExpirationDateTime", text(rfc3339(e.when, 7))),
        ("changeType", text(e.parts[1])),
        ("resource", resource),
        ("resourceData", data),
        ("tenantId", text(e.tenant)),
    )
    return obj(("value", f"[{notice}]")), {}, {}


@contract
def pagerduty(e):
    event = obj(
        ("id", text(e.id)),
        ("event_type", text(e.type)),
        ("resource_type", text(e.parts[0])),
        ("occurred_at", text(rfc3339(e.when))),
        ("agent", "null"),
        ("client", "null"),
        ("data", e.data),
    )
    body = obj(("event", event))
    return (
        body,
        {
            "X-Webhook-Id": DELIVERY,
            "X-Webhook-Subscription": SUBSCRIPTION,
            "X-PagerDuty-Signature": "v1=" + hexmac(e.key, body),
        },
        {"v1": body},
    )


@contract
def openai(e):
    body = obj(
        ("id", text(e.id)),
        ("object", '"event"'),
        ("created_at", str(e.s)),
        ("type", text(e.type)),
        ("data", e.data),
    )
    return standard(e, body)


@contract
def replicate(e):
    return standard(e, e.data)
