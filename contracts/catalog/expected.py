#!/usr/bin/env python3
"""Checks the examples of the catalogue against a second implementation.

Each document beside this file ends in `examples`; Pregón compares them with what it renders and signs
whenever it reads the document. What they expect is computed here once more, by a function for each
sender, written after the sender's public description with Python's standard library alone. The senders'
own libraries judge real deliveries: `scripts/senders.sh`.

    python3 contracts/catalog/expected.py           says ok, or every difference, and exits 1
    python3 contracts/catalog/expected.py --show    prints what is computed, as it stands in a document
"""

import base64
import hashlib
import hmac
import importlib.util
import json
import pathlib
import re
import sys
import urllib.parse
import zoneinfo

HERE = pathlib.Path(__file__).parent

# The reader of examples and the pieces of JSON are those of the built-in contracts' check.
_spec = importlib.util.spec_from_file_location("built_in", HERE.parent / "expected.py")
built_in = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(built_in)
load, instant, text, obj, stringify = (
    built_in.load,
    built_in.instant,
    built_in.text,
    built_in.members,
    built_in.stringify,
)

# What the examples have that name no other: tenant, subscription, URL.
TENANT, SUBSCRIPTION, URL = "acme", "example", "https://example.com/hook"
# The id of the delivery of an example, which follows from the event's time: all have the same.
DELIVERY = "06eaih8av80000000001-1"


class Example:
    """One example, with what contracts say of it."""

    def __init__(self, it):
        event = it["event"]
        self.id, self.type, self.data = event["id"], event["type"], event["data"]
        self.attributes = event.get("attributes", {})
        self.tenant = event.get("tenant", TENANT)
        self.live = event.get("environment", "LIVE") == "LIVE"
        self.url, self.attempt = it.get("url", URL), it.get("attempt", 1)
        self.secret = it.get("secret", "")
        self.key = self.secret.encode()
        self.when, self.sent = instant(event["time"]), instant(it["time"])
        # Of the event and of the attempt: whole seconds, and milliseconds.
        self.s, self.ms = seconds(self.when)
        self.at, self.at_ms = seconds(self.sent)
        self.parts = self.type.split(".")

    def json(self):
        return json.loads(self.data)

    def inner(self):
        """The members of the data, to stand among others."""
        return self.data.strip()[1:-1]


def seconds(when):
    ms = round(when.timestamp() * 1000)
    return ms // 1000, ms


def rfc3339(when, digits=3):
    """UTC with Z and this many digits of a second."""
    micro = f"{when.microsecond:06}000"[:digits]
    return when.strftime("%Y-%m-%dT%H:%M:%S") + (f".{micro}" if digits else "") + "Z"


def local(when, zone):
    there = when.astimezone(zoneinfo.ZoneInfo(zone)).isoformat(timespec="seconds")
    return there.replace("+00:00", "Z")


def mac(key, message, digest="sha256"):
    return hmac.new(key, message.encode() if isinstance(message, str) else message, digest)


def hexmac(key, message, digest="sha256"):
    return mac(key, message, digest).hexdigest()


def b64mac(key, message, digest="sha256"):
    return base64.b64encode(mac(key, message, digest).digest()).decode()


def b64(data):
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def b64url(data):
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).decode().rstrip("=")


def sha256(message):
    return hashlib.sha256(message.encode())


def form(*pairs):
    return urllib.parse.urlencode(pairs)


def with_last(body, inner):
    """An object's text with more members behind its own."""
    return body[:-1] + "," + inner + "}"


CONTRACTS = {}


def contract(function):
    CONTRACTS[function.__name__] = function
    return function


# Each: example → body, headers (content-type not among them if it is JSON's), signed texts by name.


@contract
def stripe(e):
    body = obj(
        ("id", text(e.id)),
        ("object", '"event"'),
        ("api_version", '"2025-03-31.basil"'),
        ("created", str(e.s)),
        ("data", obj(("object", e.data))),
        ("livemode", "true"),
        ("pending_webhooks", "1"),
        ("request", '{"id":null,"idempotency_key":null}'),
        ("type", text(e.type)),
    )
    signed = f"{e.at}.{body}"
    return body, {"Stripe-Signature": f"t={e.at},v1={hexmac(e.key, signed)}"}, {"v1": signed}


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
def slack(e):
    body = obj(
        ("team_id", text(e.tenant)),
        ("api_app_id", '"A0000000000"'),
        ("event", e.data),
        ("type", '"event_callback"'),
        ("event_id", text(e.id)),
        ("event_time", str(e.s)),
    )
    signed = f"v0:{e.at}:{body}"
    return (
        body,
        {"X-Slack-Request-Timestamp": str(e.at), "X-Slack-Signature": "v0=" + hexmac(e.key, signed)},
        {"v0": signed},
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
def meta(e):
    change = obj(("value", e.data), ("field", text(e.parts[1])))
    entry = obj(("id", text(e.tenant)), ("time", str(e.s)), ("changes", f"[{change}]"))
    body = obj(("object", text(e.parts[0])), ("entry", f"[{entry}]"))
    return (
        body,
        {
            "X-Hub-Signature": "sha1=" + hexmac(e.key, body, "sha1"),
            "X-Hub-Signature-256": "sha256=" + hexmac(e.key, body),
        },
        {"sha1": body, "sha256": body},
    )


@contract
def razorpay(e):
    body = obj(
        ("entity", '"event"'),
        ("account_id", text(e.tenant)),
        ("event", text(e.type)),
        ("contains", f"[{text(e.parts[0])}]"),
        ("payload", e.data),
        ("created_at", str(e.s)),
    )
    return (body, {"X-Razorpay-Event-Id": e.id, "X-Razorpay-Signature": hexmac(e.key, body)}, {"hmac": body})


@contract
def square(e):
    body = obj(
        ("merchant_id", text(e.tenant)),
        ("type", text(e.type)),
        ("event_id", text(e.id)),
        ("created_at", text(rfc3339(e.when))),
        ("data", e.data),
    )
    return (
        body,
        {
            "square-environment": "Production",
            "square-initial-delivery-timestamp": rfc3339(e.when, 0),
            "x-square-hmacsha256-signature": b64mac(e.key, e.url + body),
        },
        {"hmac": e.url + body},
    )


@contract
def line(e):
    event = obj(
        ("type", text(e.type)),
        ("mode", '"active"'),
        ("timestamp", str(e.ms)),
        ("webhookEventId", text(e.id)),
        ("deliveryContext", '{"isRedelivery":false}'),
    )
    body = obj(("destination", text(e.tenant)), ("events", f"[{with_last(event, e.inner())}]"))
    return body, {"x-line-signature": b64mac(e.key, body)}, {"hmac": body}


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
        {"Linear-Delivery": e.id, "Linear-Event": e.parts[0], "Linear-Signature": hexmac(e.key, body)},
        {"hmac": body},
    )


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
def workos(e):
    body = stringify({"id": e.id, "event": e.type, "data": e.json(), "created_at": rfc3339(e.when)})
    signed = f"{e.at_ms}.{body}"
    return body, {"WorkOS-Signature": f"t={e.at_ms}, v1={hexmac(e.key, signed)}"}, {"v1": signed}


@contract
def hubspot(e):
    event = obj(("subscriptionType", text(e.type)), ("occurredAt", str(e.ms)), ("attemptNumber", str(e.attempt - 1)))
    body = f"[{with_last(event, e.inner())}]"
    signed = f"POST{e.url}{body}{e.at_ms}"
    return (
        body,
        {"X-HubSpot-Request-Timestamp": str(e.at_ms), "X-HubSpot-Signature-v3": b64mac(e.key, signed)},
        {"v3": signed},
    )


@contract
def paddle(e):
    body = obj(
        ("event_id", text(e.id)),
        ("event_type", text(e.type)),
        ("occurred_at", text(rfc3339(e.when, 6))),
        ("notification_id", text(DELIVERY)),
        ("data", e.data),
    )
    signed = f"{e.at}:{body}"
    return body, {"Paddle-Signature": f"ts={e.at};h1={hexmac(e.key, signed)}"}, {"h1": signed}


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
def adyen_balance_platform(e):
    body = obj(
        ("data", e.data), ("environment", '"live"'), ("timestamp", text(rfc3339(e.when))), ("type", text(e.type))
    )
    return (body, {"Protocol": "HmacSHA256", "HmacSignature": b64mac(bytes.fromhex(e.secret), body)}, {"hmac": body})


@contract
def discord(e):
    event = obj(("type", text(e.type)), ("timestamp", text(rfc3339(e.when, 6))), ("data", e.data))
    body = obj(("version", "1"), ("application_id", text(e.tenant)), ("type", "1"), ("event", event))
    signed = f"{e.at}{body}"
    return (
        body,
        {"X-Signature-Timestamp": str(e.at), "X-Signature-Ed25519": ed25519(e.secret, signed).hex()},
        {"ed25519": signed},
    )


@contract
def telnyx(e):
    data = obj(
        ("event_type", text(e.type)),
        ("id", text(e.id)),
        ("occurred_at", text(rfc3339(e.when))),
        ("payload", e.data),
        ("record_type", '"event"'),
    )
    body = obj(("data", data), ("meta", obj(("attempt", str(e.attempt)), ("delivered_to", text(e.url)))))
    signed = f"{e.at}|{body}"
    return (
        body,
        {"telnyx-timestamp": str(e.at), "telnyx-signature-ed25519": b64(ed25519(e.secret, signed))},
        {"ed25519": signed},
    )


@contract
def zoom(e):
    body = stringify({"event": e.type, "payload": {"account_id": e.tenant, "object": e.json()}, "event_ts": e.ms})
    signed = f"v0:{e.at}:{body}"
    return (
        body,
        {"x-zm-request-timestamp": str(e.at), "x-zm-signature": "v0=" + hexmac(e.key, signed)},
        {"v0": signed},
    )


def standard(e, body, names="webhook"):
    """Standard Webhooks, and Svix with its own names."""
    key = base64.b64decode(e.secret.removeprefix("whsec_"))
    signed = f"{e.id}.{e.at}.{body}"
    return (
        body,
        {f"{names}-id": e.id, f"{names}-timestamp": str(e.at), f"{names}-signature": "v1," + b64mac(key, signed)},
        {"v1": signed},
    )


@contract
def svix(e):
    return standard(e, e.data, "svix")


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
def resend(e):
    return standard(e, obj(("type", text(e.type)), ("created_at", text(rfc3339(e.when))), ("data", e.data)), "svix")


@contract
def openai(e):
    body = obj(
        ("id", text(e.id)), ("object", '"event"'), ("created_at", str(e.s)), ("type", text(e.type)), ("data", e.data)
    )
    return standard(e, body)


@contract
def dodopayments(e):
    body = obj(
        ("business_id", text(e.tenant)),
        ("type", text(e.type)),
        ("timestamp", text(rfc3339(e.when, 6))),
        ("data", e.data),
    )
    return standard(e, body)


@contract
def lithic(e):
    return standard(e, e.data)


@contract
def replicate(e):
    return standard(e, e.data)


@contract
def polar(e):
    body = obj(("type", text(e.type)), ("timestamp", text(rfc3339(e.when, 6))), ("data", e.data))
    signed = f"{e.id}.{e.at}.{body}"
    return (
        body,
        {"webhook-id": e.id, "webhook-timestamp": str(e.at), "webhook-signature": "v1," + b64mac(e.key, signed)},
        {"v1": signed},
    )


@contract
def gocardless(e):
    event = obj(
        ("id", text(e.id)),
        ("created_at", text(rfc3339(e.when))),
        ("resource_type", text(e.parts[0])),
        ("action", text(e.parts[1])),
    )
    body = obj(("events", f"[{with_last(event, e.inner())}]"), ("meta", obj(("webhook_id", text(DELIVERY)))))
    return (body, {"Origin": "https://api.gocardless.com", "Webhook-Signature": hexmac(e.key, body)}, {"hmac": body})


@contract
def mollie(e):
    body = obj(
        ("resource", '"event"'),
        ("id", text(e.id)),
        ("type", text(e.type)),
        ("entityId", text(e.json()["id"])),
        ("createdAt", text(rfc3339(e.when, 0))),
        ("_embedded", obj(("entity", e.data))),
    )
    return body, {"X-Mollie-Signature": "sha256=" + hexmac(e.key, body)}, {"sha256": body}


@contract
def coinbase_commerce(e):
    when = text(rfc3339(e.when, 0))
    event = obj(
        ("api_version", '"2018-03-22"'),
        ("created_at", when),
        ("data", e.data),
        ("id", text(e.id)),
        ("resource", '"event"'),
        ("type", text(e.type)),
    )
    body = obj(("attempt_number", str(e.attempt)), ("event", event), ("id", text(DELIVERY)), ("scheduled_for", when))
    return body, {"X-CC-Webhook-Signature": hexmac(e.key, body)}, {"hmac": body}


@contract
def chargebee(e):
    body = obj(
        ("id", text(e.id)),
        ("occurred_at", str(e.s)),
        ("source", '"scheduled_job"'),
        ("object", '"event"'),
        ("api_version", '"v2"'),
        ("content", e.data),
        ("event_type", text(e.type)),
        ("webhook_status", '"scheduled"'),
    )
    return body, {}, {}


@contract
def onfido(e):
    body = obj(("payload", obj(("resource_type", text(e.parts[0])), ("action", text(e.type)), ("object", e.data))))
    return body, {"X-SHA2-Signature": hexmac(e.key, body)}, {"hmac": body}


@contract
def pusher(e):
    body = obj(("time_ms", str(e.ms)), ("events", f"[{with_last(obj(('name', text(e.type))), e.inner())}]"))
    return (body, {"X-Pusher-Key": e.tenant, "X-Pusher-Signature": hexmac(e.key, body)}, {"hmac": body})


@contract
def stream_chat(e):
    body = with_last(obj(("type", text(e.type)), ("created_at", text(rfc3339(e.when, 9)))), e.inner())
    return (
        body,
        {
            "X-Webhook-Id": e.id,
            "X-Webhook-Attempt": str(e.attempt),
            "X-Api-Key": e.tenant,
            "X-Signature": hexmac(e.key, body),
        },
        {"hmac": body},
    )


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
def cashfree(e):
    body = obj(("data", e.data), ("event_time", text(local(e.when, "Asia/Kolkata"))), ("type", text(e.type)))
    signed = f"{e.at_ms}{body}"
    return (
        body,
        {
            "x-webhook-version": "2023-08-01",
            "x-webhook-timestamp": str(e.at_ms),
            "x-idempotency-key": e.id,
            "x-webhook-signature": b64mac(e.key, signed),
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
def orb(e):
    body = with_last(obj(("id", text(e.id)), ("created_at", text(rfc3339(e.when))), ("type", text(e.type))), e.inner())
    at = rfc3339(e.sent).removesuffix("Z")
    signed = f"v1:{at}:{body}"
    return (body, {"X-Orb-Timestamp": at, "X-Orb-Signature": "v1=" + hexmac(e.key, signed)}, {"v1": signed})


@contract
def modern_treasury(e):
    body = obj(("event", text(e.parts[1])), ("data", e.data))
    return (
        body,
        {
            "X-Topic": e.parts[0],
            "X-Event-ID": e.id,
            "X-Webhook-ID": SUBSCRIPTION,
            "X-Organization-ID": e.tenant,
            "X-Signature": hexmac(e.key, body),
        },
        {"hmac": body},
    )


@contract
def fintoc(e):
    body = obj(
        ("id", text(e.id)),
        ("type", text(e.type)),
        ("mode", '"live"'),
        ("created_at", text(rfc3339(e.when))),
        ("data", e.data),
        ("object", '"event"'),
    )
    signed = f"{e.at}.{body}"
    return body, {"Fintoc-Signature": f"t={e.at},v1={hexmac(e.key, signed)}"}, {"v1": signed}


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
        {"X-Inngest-Server-Kind": "cloud", "X-Inngest-Signature": f"t={e.at}&s={hexmac(e.key, signed)}"},
        {"s": signed},
    )


@contract
def mailgun(e):
    token = sha256(e.id).hexdigest()[:50]
    data = with_last(obj(("event", text(e.type)), ("id", text(e.id)), ("timestamp", str(e.s))), e.inner())
    signed = f"{e.at}{token}"
    signature = obj(("timestamp", text(str(e.at))), ("token", text(token)), ("signature", text(hexmac(e.key, signed))))
    return obj(("event-data", data), ("signature", signature)), {}, {"signature": signed}


@contract
def twilio(e):
    data = e.json()
    pairs = [
        ("AccountSid", e.tenant),
        ("ApiVersion", "2010-04-01"),
        ("Body", data["body"]),
        ("From", data["from"]),
        ("MessageSid", data["sid"]),
        ("MessageStatus", data["status"]),
        ("To", data["to"]),
    ]
    signed = e.url + "".join(name + value for name, value in sorted(pairs))
    return (
        form(*pairs),
        {
            "content-type": "application/x-www-form-urlencoded; charset=UTF-8",
            "I-Twilio-Idempotency-Token": e.id,
            "X-Twilio-Signature": b64mac(e.key, signed, "sha1"),
        },
        {"hmac": signed},
    )


@contract
def plivo(e):
    data = e.json()
    pairs = [
        ("From", data["from"]),
        ("MessageUUID", data["uuid"]),
        ("Status", data["status"]),
        ("Text", data["text"]),
        ("To", data["to"]),
    ]
    nonce = sha256(f"{e.id}.{e.attempt}").hexdigest()[:20]
    signed = e.url + "?" + "".join(name + value for name, value in sorted(pairs)) + "." + nonce
    return (
        form(*pairs),
        {
            "content-type": "application/x-www-form-urlencoded",
            "X-Plivo-Signature-V3-Nonce": nonce,
            "X-Plivo-Signature-V3": b64mac(e.key, signed),
        },
        {"v3": signed},
    )


@contract
def telegram(e):
    return obj(("update_id", e.attributes["update_id"]), ("message", e.data)), {}, {}


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


def json_parts(e, *names):
    """The texts of these members. The data of the examples that use it are written without white space."""
    return [json.dumps(e.json()[name], ensure_ascii=False, separators=(",", ":")) for name in names]


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
def http_message_signatures(e):
    digest = f"sha-256=:{b64(sha256(e.data).digest())}:"
    parameters = f'("@method" "@target-uri" "content-digest");created={e.at};keyid="{SUBSCRIPTION}";alg="hmac-sha256"'
    signed = f'"@method": POST\n"@target-uri": {e.url}\n"content-digest": {digest}\n"@signature-params": {parameters}'
    return (
        e.data,
        {
            "Content-Digest": digest,
            "Signature-Input": f"sig1={parameters}",
            "Signature": f"sig1=:{b64mac(e.key, signed)}:",
        },
        {"sig1": signed},
    )


@contract
def paystack(e):
    body = obj(("event", text(e.type)), ("data", e.data))
    return body, {"X-Paystack-Signature": hexmac(e.key, body, "sha512")}, {"hmac": body}


@contract
def event_grid(e):
    event = obj(
        ("id", text(e.id)),
        ("topic", text(f"/subscriptions/{e.tenant}")),
        ("subject", text(e.attributes["subject"])),
        ("data", e.data),
        ("eventType", text(e.type)),
        ("eventTime", text(rfc3339(e.when, 7))),
        ("dataVersion", '"1.0"'),
        ("metadataVersion", '"1"'),
    )
    return (
        f"[{event}]",
        {
            "content-type": "application/json; charset=utf-8",
            "aeg-event-type": "Notification",
            "aeg-subscription-name": SUBSCRIPTION,
            "aeg-delivery-count": "0",
            "aeg-data-version": "1.0",
            "aeg-metadata-version": "1",
        },
        {},
    )


@contract
def typeform(e):
    body = obj(("event_id", text(e.id)), ("event_type", text(e.type)), ("form_response", e.data))
    return body, {"Typeform-Signature": "sha256=" + b64mac(e.key, body)}, {"sha256": body}


@contract
def xero(e):
    event = obj(
        ("eventType", text(e.parts[1])),
        ("eventCategory", text(e.parts[0])),
        ("eventDateUtc", text(rfc3339(e.when).removesuffix("Z"))),
        ("tenantId", text(e.tenant)),
    )
    body = obj(
        ("events", f"[{with_last(event, e.inner())}]"),
        ("firstEventSequence", "1"),
        ("lastEventSequence", "1"),
        ("entropy", text(sha256(e.id).hexdigest()[:20].upper())),
    )
    return body, {"x-xero-signature": b64mac(e.key, body)}, {"hmac": body}


@contract
def intercom(e):
    body = obj(
        ("type", '"notification_event"'),
        ("app_id", text(e.tenant)),
        ("data", obj(("type", '"notification_event_data"'), ("item", e.data))),
        ("links", "{}"),
        ("id", text(e.id)),
        ("topic", text(e.type)),
        ("delivery_status", '"pending"'),
        ("delivery_attempts", str(e.attempt)),
        ("delivered_at", "0"),
        ("first_sent_at", str(e.s)),
        ("created_at", str(e.s)),
        ("self", "null"),
    )
    return body, {"X-Hub-Signature": "sha1=" + hexmac(e.key, body, "sha1")}, {"sha1": body}


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
def vercel(e):
    body = obj(
        ("id", text(e.id)), ("type", text(e.type)), ("createdAt", str(e.ms)), ("payload", e.data), ("region", "null")
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
    body = with_last(e.data, f'"webhook":{webhook}')
    return body, {"X-Trello-Webhook": b64mac(e.key, body + e.url, "sha1")}, {"hmac": body + e.url}


@contract
def dropbox(e):
    accounts, users = json_parts(e, "accounts", "users")
    body = obj(("list_folder", obj(("accounts", accounts))), ("delta", obj(("users", users))))
    return body, {"X-Dropbox-Signature": hexmac(e.key, body)}, {"hmac": body}


@contract
def asana(e):
    body = obj(("events", f"[{e.data}]"))
    return body, {"X-Hook-Signature": hexmac(e.key, body)}, {"hmac": body}


@contract
def btcpay(e):
    body = obj(
        ("deliveryId", text(DELIVERY)),
        ("webhookId", text(SUBSCRIPTION)),
        ("originalDeliveryId", text(DELIVERY)),
        ("isRedelivery", "false"),
        ("type", text(e.type)),
        ("timestamp", str(e.s)),
        ("storeId", text(e.tenant)),
    )
    body = with_last(body, e.inner())
    return body, {"BTCPay-Sig": "sha256=" + hexmac(e.key, body)}, {"sha256": body}


@contract
def lemon_squeezy(e):
    custom, resource = json_parts(e, "custom_data", "resource")
    meta = obj(("event_name", text(e.type)), ("webhook_id", text(SUBSCRIPTION)), ("custom_data", custom))
    body = obj(("meta", meta), ("data", resource))
    return body, {"X-Event-Name": e.type, "X-Signature": hexmac(e.key, body)}, {"hmac": body}


@contract
def nuvemshop(e):
    body = obj(("store_id", e.tenant.removeprefix("store-")), ("event", text(e.type.replace(".", "/"))))
    body = with_last(body, e.inner())
    return body, {"x-linkedstore-hmac-sha256": hexmac(e.key, body)}, {"hmac": body}


@contract
def khipu(e):
    signed = f"{e.at_ms}.{e.data}"
    return e.data, {"x-khipu-signature": f"t={e.at_ms},s={b64mac(e.key, signed)}"}, {"s": signed}


@contract
def dlocal(e):
    at = rfc3339(e.sent)
    signed = f"{e.tenant}{at}{e.data}"
    return (
        e.data,
        {
            "X-Date": at,
            "X-Login": e.tenant,
            "X-Version": "2.1",
            "Authorization": "V2-HMAC-SHA256, Signature: " + hexmac(e.key, signed),
        },
        {"hmac": signed},
    )


@contract
def kushki(e):
    signed = f"{e.data}.{e.at_ms}"
    return (
        e.data,
        {
            "X-Kushki-Id": str(e.at_ms),
            "X-Kushki-Key": e.tenant,
            "X-Kushki-SimpleSignature": hexmac(e.key, str(e.at_ms)),
            "X-Kushki-Signature": hexmac(e.key, signed),
        },
        {"simple": str(e.at_ms), "hmac": signed},
    )


@contract
def wompi_sv(e):
    return e.data, {"wompi_hash": hexmac(e.key, e.data)}, {"hmac": e.data}


@contract
def palomma(e):
    body = obj(
        ("webhookId", text(e.id)), ("timestamp", text(rfc3339(e.when))), ("eventType", text(e.type)), ("event", e.data)
    )
    return (body, {"X-Encoded-Data": b64(body), "X-Signature": hexmac(e.key, b64(body))}, {"hmac": b64(body)})


@contract
def openpay(e):
    when = local(e.when, "America/Mexico_City")
    return obj(("type", text(e.type)), ("event_date", text(when)), ("transaction", e.data)), {}, {}


@contract
def flow(e):
    return (form(("token", e.json()["token"])), {"content-type": "application/x-www-form-urlencoded"}, {})


def jwt(e, algorithm, claims, sign):
    """A JSON Web Token: what is signed, and the token."""
    header = algorithm if algorithm.startswith("{") else obj(("alg", text(algorithm)), ("typ", '"JWT"'))
    signed = f"{b64url(header)}.{b64url(claims)}"
    return signed, f"{signed}.{b64url(sign(signed))}"


def hs256(e, claims):
    return jwt(e, "HS256", claims, lambda signed: mac(e.key, signed).digest())


@contract
def livekit(e):
    body = with_last(obj(("event", text(e.type)), ("id", text(e.id)), ("createdAt", text(str(e.s)))), e.inner())
    claims = obj(
        ("exp", str(e.at + 300)),
        ("iss", text(e.tenant)),
        ("nbf", str(e.at)),
        ("sha256", text(b64(sha256(body).digest()))),
    )
    signed, token = hs256(e, claims)
    return (body, {"content-type": "application/webhook+json", "Authorization": token}, {"jwt": signed})


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
    return (e.data, {"Upstash-Message-Id": e.id, "Upstash-Retried": "0", "Upstash-Signature": token}, {"jwt": signed})


@contract
def messagebird(e):
    claims = obj(
        ("iss", '"MessageBird"'),
        ("nbf", str(e.at)),
        ("exp", str(e.at + 60)),
        ("jti", text(sha256(e.id).hexdigest())),
        ("url_hash", text(sha256(e.url).hexdigest())),
        ("payload_hash", text(sha256(e.data).hexdigest())),
    )
    signed, token = hs256(e, claims)
    return e.data, {"MessageBird-Signature-JWT": token}, {"jwt": signed}


@contract
def vonage(e):
    claims = obj(
        ("iat", str(e.at)),
        ("jti", text(sha256(e.id).hexdigest())),
        ("iss", '"Vonage"'),
        ("payload_hash", text(sha256(e.data).hexdigest())),
        ("api_key", text(e.tenant)),
    )
    signed, token = hs256(e, claims)
    return e.data, {"Authorization": f"Bearer {token}"}, {"jwt": signed}


@contract
def wipay(e):
    amount = re.search(r'"amount":([0-9.]+)', e.data)[1]
    data = e.json()
    signed = data["merchantId"] + data["requestId"] + data["status"] + amount + data["currency"]
    return e.data, {"X-Wipay-Signature": b64mac(e.key, signed)}, {"hmac": signed}


@contract
def pagbank(e):
    return (
        e.data,
        {
            "x-product-origin": "ORDER",
            "x-product-id": e.json()["id"],
            "x-authenticity-token": sha256(f"{e.secret}-{e.data}").hexdigest(),
        },
        {"token": e.data},
    )


@contract
def rapyd(e):
    body = obj(
        ("id", text(e.id)),
        ("type", text(e.type)),
        ("data", e.data),
        ("trigger_operation_id", text(DELIVERY)),
        ("status", '"NEW"'),
        ("created_at", str(e.s)),
    )
    salt = sha256(f"{e.id}.{e.attempt}").hexdigest()[:12]
    signed = f"{e.url}{salt}{e.at}{e.tenant}{e.secret}{body}"
    return (
        body,
        {"access_key": e.tenant, "salt": salt, "timestamp": str(e.at), "signature": b64(hexmac(e.key, signed))},
        {},
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
def okta(e):
    when = text(rfc3339(e.when))
    event = obj(("uuid", text(e.id)), ("published", when), ("eventType", text(e.type)), ("version", '"0"'))
    body = obj(
        ("eventType", '"com.okta.event_hook"'),
        ("eventTypeVersion", '"1.0"'),
        ("cloudEventsVersion", '"0.1"'),
        ("source", text(f"https://{e.tenant}.okta.com/api/v1/eventHooks/{SUBSCRIPTION}")),
        ("eventId", text(e.id)),
        ("data", obj(("events", f"[{with_last(event, e.inner())}]"))),
        ("eventTime", when),
        ("contentType", '"application/json"'),
    )
    return body, {}, {}


@contract
def x(e):
    body = with_last(obj(("for_user_id", text(e.tenant))), e.inner())
    return body, {"x-twitter-webhooks-signature": "sha256=" + b64mac(e.key, body)}, {"sha256": body}


@contract
def efi(e):
    return obj(("pix", f"[{e.data}]")), {}, {}


# Ed25519, RFC 8032, 5.1: there is none in Python's standard library.

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = 15112221349535400772501151409588531511454012693041857206046113283949847762202
BASE = (BASE_X, BASE_Y)


def added(one, two):
    """The sum of two points of the curve."""
    (x1, y1), (x2, y2) = one, two
    cross = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + cross, P - 2, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - cross, P - 2, P)
    return x % P, y % P


def times(scalar, point):
    total = (0, 1)
    while scalar:
        if scalar & 1:
            total = added(total, point)
        point, scalar = added(point, point), scalar >> 1
    return total


def encoded(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def ed25519(secret, message):
    """Signs with a key as `whsk_` and the base64 of its seed."""
    seed = base64.b64decode(secret.removeprefix("whsk_"))[:32]
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    public = encoded(times(scalar, BASE))
    nonce = int.from_bytes(hashlib.sha512(digest[32:] + message.encode()).digest(), "little") % L
    commitment = encoded(times(nonce, BASE))
    challenge = int.from_bytes(hashlib.sha512(commitment + public + message.encode()).digest(), "little") % L
    return commitment + ((nonce + challenge * scalar) % L).to_bytes(32, "little")


def self_check():
    """The pieces against vectors that others published."""
    # RFC 8032, 7.1, test 2.
    secret = (
        "whsk_"
        + base64.b64encode(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")).decode()
    )
    assert ed25519(secret, "r").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    # RFC 4231, test case 2.
    assert (
        hexmac(b"Jefe", "what do ya want for nothing?")
        == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def computed(name, it):
    body, headers, signed = CONTRACTS[name](Example(it))
    if not any(one.lower() == "content-type" for one in headers):
        headers = {"content-type": "application/json"} | headers
    return {"body": body, "headers": headers} | ({"signed": signed} if signed else {})


def check(name):
    """What differs in a document."""
    wrong = []
    for index, it in enumerate(load((HERE / f"{name}.yaml").read_text())["examples"]):
        expect, want = it.get("expect", {}), computed(name, it)
        for key in want.keys() | expect.keys():
            if expect.get(key) != want.get(key):
                wrong.append(
                    f"{name}: examples[{index}].expect.{key}\n  computed {want.get(key)!r}\n  in the file {expect.get(key)!r}"
                )
    return wrong


def main():
    self_check()
    names = {path.stem for path in HERE.glob("*.yaml")}
    wrong = [f"{name}.yaml: no second implementation here" for name in sorted(names - CONTRACTS.keys())]
    wrong += [f"{name}: no document here" for name in sorted(CONTRACTS.keys() - names)]
    for name in sorted(names & CONTRACTS.keys()):
        if "--show" in sys.argv[1:]:
            for it in load((HERE / f"{name}.yaml").read_text())["examples"]:
                print(name, json.dumps(computed(name, it), ensure_ascii=False, indent=1))
        else:
            wrong += check(name)
    print("\n".join(wrong) if wrong else f"ok: {len(names)} contracts")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
