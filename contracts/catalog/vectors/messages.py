"""What examples of senders of messages, mail and calls expect.

Each function is one contract: example → body, headers, signed texts by name. A content type is
among the headers if it is not JSON's.
"""

from .pieces import (
    b64,
    b64mac,
    contract,
    ed25519,
    form,
    hexmac,
    hs256,
    members_behind,
    obj,
    rfc3339,
    sha256,
    standard,
    stringify,
    text,
)


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
def twilio_json(e):
    signed = f"{e.url}?bodySHA256={sha256(e.data).hexdigest()}"
    return (
        e.data,
        {"I-Twilio-Idempotency-Token": e.id, "X-Twilio-Signature": b64mac(e.key, signed, "sha1")},
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
def line(e):
    event = obj(
        ("type", text(e.type)),
        ("mode", '"active"'),
        ("timestamp", str(e.ms)),
        ("webhookEventId", text(e.id)),
        ("deliveryContext", '{"isRedelivery":false}'),
    )
    body = obj(("destination", text(e.tenant)), ("events", f"[{members_behind(event, e.inner())}]"))
    return body, {"x-line-signature": b64mac(e.key, body)}, {"hmac": body}


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
def mailgun(e):
    token = sha256(e.id).hexdigest()[:50]
    data = members_behind(
        obj(("event", text(e.type)), ("id", text(e.id)), ("timestamp", str(e.s))), e.inner()
    )
    signed = f"{e.at}{token}"
    signature = obj(
        ("timestamp", text(str(e.at))),
        ("token", text(token)),
        ("signature", text(hexmac(e.key, signed))),
    )
    return obj(("event-data", data), ("signature", signature)), {}, {"signature": signed}


@contract
def sendgrid(e):
    event = obj(("event", text(e.type)), ("sg_event_id", text(e.id)), ("timestamp", str(e.s)))
    body = f"[{members_behind(event, e.inner())}]"
    return body, {"X-Twilio-Email-Event-Webhook-Timestamp": str(e.at)}, {"ecdsa": f"{e.at}{body}"}


@contract
def resend(e):
    return standard(
        e,
        obj(("type", text(e.type)), ("created_at", text(rfc3339(e.when))), ("data", e.data)),
        "svix",
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
    body = obj(
        ("data", data), ("meta", obj(("attempt", str(e.attempt)), ("delivered_to", text(e.url))))
    )
    signed = f"{e.at}|{body}"
    return (
        body,
        {"telnyx-timestamp": str(e.at), "telnyx-signature-ed25519": b64(ed25519(e.secret, signed))},
        {"ed25519": signed},
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
        {
            "X-Slack-Request-Timestamp": str(e.at),
            "X-Slack-Signature": "v0=" + hexmac(e.key, signed),
        },
        {"v0": signed},
    )


@contract
def discord(e):
    event = obj(("type", text(e.type)), ("timestamp", text(rfc3339(e.when, 6))), ("data", e.data))
    body = obj(
        ("version", "1"), ("application_id", text(e.tenant)), ("type", "1"), ("event", event)
    )
    signed = f"{e.at}{body}"
    return (
        body,
        {
            "X-Signature-Timestamp": str(e.at),
            "X-Signature-Ed25519": ed25519(e.secret, signed).hex(),
        },
        {"ed25519": signed},
    )


@contract
def stream_chat(e):
    body = members_behind(
        obj(("type", text(e.type)), ("created_at", text(rfc3339(e.when, 9)))), e.inner()
    )
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
def pusher(e):
    body = obj(
        ("time_ms", str(e.ms)),
        ("events", f"[{members_behind(obj(('name', text(e.type))), e.inner())}]"),
    )
    return (
        body,
        {"X-Pusher-Key": e.tenant, "X-Pusher-Signature": hexmac(e.key, body)},
        {"hmac": body},
    )


@contract
def zoom(e):
    body = stringify(
        {"event": e.type, "payload": {"account_id": e.tenant, "object": e.json()}, "event_ts": e.ms}
    )
    signed = f"v0:{e.at}:{body}"
    return (
        body,
        {"x-zm-request-timestamp": str(e.at), "x-zm-signature": "v0=" + hexmac(e.key, signed)},
        {"v0": signed},
    )


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
def livekit(e):
    body = members_behind(
        obj(("event", text(e.type)), ("id", text(e.id)), ("createdAt", text(str(e.s)))), e.inner()
    )
    claims = obj(
        ("exp", str(e.at + 300)),
        ("iss", text(e.tenant)),
        ("nbf", str(e.at)),
        ("sha256", text(b64(sha256(body).digest()))),
    )
    signed, token = hs256(e, claims)
    return (
        body,
        {"content-type": "application/webhook+json", "Authorization": token},
        {"jwt": signed},
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
def x(e):
    body = members_behind(obj(("for_user_id", text(e.tenant))), e.inner())
    return body, {"x-twitter-webhooks-signature": "sha256=" + b64mac(e.key, body)}, {"sha256": body}
