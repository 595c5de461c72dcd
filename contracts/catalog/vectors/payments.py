"""What examples of senders of payments and billing expect.

Each function is one contract: example → body, headers, signed texts by name. A content type is
among the headers if it is not JSON's.
"""

import hashlib
import urllib.parse
import zlib

from .pieces import (
    DELIVERY,
    KEY,
    SUBSCRIPTION,
    b64,
    b64mac,
    b64url,
    contract,
    form,
    hexmac,
    json_parts,
    local,
    members_behind,
    obj,
    rfc3339,
    sha256,
    standard,
    text,
)


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
def adyen_balance_platform(e):
    body = obj(
        ("data", e.data),
        ("environment", '"live"'),
        ("timestamp", text(rfc3339(e.when))),
        ("type", text(e.type)),
    )
    return (
        body,
        {"Protocol": "HmacSHA256", "HmacSignature": b64mac(bytes.fromhex(e.secret), body)},
        {"hmac": body},
    )


@contract
def adyen_payments(e):
    data = e.json()
    signed = ":".join(
        [
            data["pspReference"],
            data.get("originalReference", ""),
            e.tenant,
            data["merchantReference"],
            str(data["amount"]["value"]),
            data["amount"]["currency"],
            e.type,
            data["success"],
        ]
    )
    key = bytes.fromhex(e.secret)
    item = obj(
        ("additionalData", obj(("hmacSignature", text(b64mac(key, signed))))),
        ("amount", json_parts(e, "amount")[0]),
        ("eventCode", text(e.type)),
        ("eventDate", text(local(e.when, "Europe/Amsterdam"))),
        ("merchantAccountCode", text(e.tenant)),
        ("merchantReference", text(data["merchantReference"])),
        ("paymentMethod", text(data["paymentMethod"])),
        ("pspReference", text(data["pspReference"])),
        ("reason", text(data["reason"])),
        ("success", text(data["success"])),
    )
    items = f"[{obj(('NotificationRequestItem', item))}]"
    return obj(("live", '"true"'), ("notificationItems", items)), {}, {"hmac": signed}


@contract
def braintree(e):
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?><notification><timestamp type="datetime">'
        + rfc3339(e.when, 0)
        + f"</timestamp><kind>{e.type}</kind><subject>{e.json()['subject']}</subject></notification>"
    )
    key = hashlib.sha1(e.key).digest()
    body = form(
        ("bt_payload", b64(xml)), ("bt_signature", f"{e.tenant}|{hexmac(key, b64(xml), 'sha1')}")
    )
    return body, {"content-type": "application/x-www-form-urlencoded"}, {"bt": b64(xml)}


@contract
def paypal(e):
    body = obj(
        ("id", text(e.id)),
        ("event_version", '"1.0"'),
        ("create_time", text(rfc3339(e.when))),
        ("resource_type", text(e.parts[0].lower())),
        ("event_type", text(e.type)),
        ("resource", e.data),
    )
    at = rfc3339(e.sent, 0)
    signed = f"{e.id}|{at}|{SUBSCRIPTION}|{zlib.crc32(body.encode())}"
    return (
        body,
        {
            "PAYPAL-TRANSMISSION-ID": e.id,
            "PAYPAL-TRANSMISSION-TIME": at,
            "PAYPAL-CERT-URL": "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-1d93a270",
            "PAYPAL-AUTH-ALGO": "SHA256withRSA",
            "PAYPAL-TRANSMISSION-SIG": b64(e.rsa(signed)),
        },
        {"rsa": signed},
    )


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
    body = obj(
        ("attempt_number", str(e.attempt)),
        ("event", event),
        ("id", text(DELIVERY)),
        ("scheduled_for", when),
    )
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
def gocardless(e):
    event = obj(
        ("id", text(e.id)),
        ("created_at", text(rfc3339(e.when))),
        ("resource_type", text(e.parts[0])),
        ("action", text(e.parts[1])),
    )
    body = obj(
        ("events", f"[{members_behind(event, e.inner())}]"),
        ("meta", obj(("webhook_id", text(DELIVERY)))),
    )
    return (
        body,
        {"Origin": "https://api.gocardless.com", "Webhook-Signature": hexmac(e.key, body)},
        {"hmac": body},
    )


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
def cashfree(e):
    body = obj(
        ("data", e.data),
        ("event_time", text(local(e.when, "Asia/Kolkata"))),
        ("type", text(e.type)),
    )
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
def razorpay(e):
    body = obj(
        ("entity", '"event"'),
        ("account_id", text(e.tenant)),
        ("event", text(e.type)),
        ("contains", f"[{text(e.parts[0])}]"),
        ("payload", e.data),
        ("created_at", str(e.s)),
    )
    return (
        body,
        {"X-Razorpay-Event-Id": e.id, "X-Razorpay-Signature": hexmac(e.key, body)},
        {"hmac": body},
    )


@contract
def paystack(e):
    body = obj(("event", text(e.type)), ("data", e.data))
    return body, {"X-Paystack-Signature": hexmac(e.key, body, "sha512")}, {"hmac": body}


@contract
def orb(e):
    body = members_behind(
        obj(("id", text(e.id)), ("created_at", text(rfc3339(e.when))), ("type", text(e.type))),
        e.inner(),
    )
    at = rfc3339(e.sent).removesuffix("Z")
    signed = f"v1:{at}:{body}"
    return (
        body,
        {"X-Orb-Timestamp": at, "X-Orb-Signature": "v1=" + hexmac(e.key, signed)},
        {"v1": signed},
    )


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
def lemon_squeezy(e):
    custom, resource = json_parts(e, "custom_data", "resource")
    meta = obj(
        ("event_name", text(e.type)), ("webhook_id", text(SUBSCRIPTION)), ("custom_data", custom)
    )
    body = obj(("meta", meta), ("data", resource))
    return body, {"X-Event-Name": e.type, "X-Signature": hexmac(e.key, body)}, {"hmac": body}


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
    body = members_behind(body, e.inner())
    return body, {"BTCPay-Sig": "sha256=" + hexmac(e.key, body)}, {"sha256": body}


@contract
def plaid(e):
    body = members_behind(
        obj(("webhook_type", text(e.parts[0])), ("webhook_code", text(e.parts[1]))), e.inner()
    )
    header = obj(("alg", '"ES256"'), ("kid", text(KEY)), ("typ", '"JWT"'))
    claims = obj(("iat", str(e.at)), ("request_body_sha256", text(sha256(body).hexdigest())))
    return body, {}, {"jwt": f"{b64url(header)}.{b64url(claims)}"}


@contract
def truelayer(e):
    body = members_behind(
        obj(("type", text(e.type)), ("event_id", text(e.id)), ("event_version", "1")), e.inner()
    )
    at = rfc3339(e.sent, 0)
    header = obj(
        ("alg", '"ES512"'),
        ("kid", text(KEY)),
        ("tl_version", '"2"'),
        ("tl_headers", '"X-TL-Webhook-Timestamp"'),
    )
    signed = f"POST {urllib.parse.urlsplit(e.url).path}\nX-TL-Webhook-Timestamp: {at}\n{body}"
    return body, {"X-TL-Webhook-Timestamp": at}, {"jws": f"{b64url(header)}.{b64url(signed)}"}


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
        {
            "access_key": e.tenant,
            "salt": salt,
            "timestamp": str(e.at),
            "signature": b64(hexmac(e.key, signed)),
        },
        {},
    )


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
def polar(e):
    body = obj(("type", text(e.type)), ("timestamp", text(rfc3339(e.when, 6))), ("data", e.data))
    signed = f"{e.id}.{e.at}.{body}"
    return (
        body,
        {
            "webhook-id": e.id,
            "webhook-timestamp": str(e.at),
            "webhook-signature": "v1," + b64mac(e.key, signed),
        },
        {"v1": signed},
    )
