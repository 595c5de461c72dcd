"""What examples of senders of Latin America expect.

Each function is one contract: example → body, headers, signed texts by name. A content type is
among the headers if it is not JSON's.
"""

import re

from .pieces import (
    b64,
    b64mac,
    contract,
    form,
    hexmac,
    local,
    members_behind,
    obj,
    rfc3339,
    sha256,
    text,
)


@contract
def mercadopago(e):
    kind, identifier = e.parts[0], e.json()["id"]
    body = obj(
        ("action", text(e.type)),
        ("api_version", '"v1"'),
        ("data", obj(("id", text(identifier)))),
        ("date_created", text(rfc3339(e.when, 0))),
        ("id", text(e.id)),
        ("live_mode", "true"),
        ("type", text(kind)),
        ("user_id", text(e.tenant)),
    )
    signed = f"id:{identifier};request-id:{e.id};ts:{e.at_ms};"
    return (
        body,
        {"x-request-id": e.id, "x-signature": f"ts={e.at_ms},v1={hexmac(e.key, signed)}"},
        {"v1": signed},
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
def wompi_co(e):
    transaction = e.json()["transaction"]
    signed = (
        f"{transaction['id']}{transaction['status']}{transaction['amount_in_cents']}{e.s}{e.secret}"
    )
    checksum = sha256(signed).hexdigest()
    signature = obj(
        ("properties", '["transaction.id","transaction.status","transaction.amount_in_cents"]'),
        ("checksum", text(checksum)),
    )
    body = obj(
        ("event", text(e.type)),
        ("data", e.data),
        ("environment", '"prod"'),
        ("signature", signature),
        ("timestamp", str(e.s)),
        ("sent_at", text(rfc3339(e.when))),
    )
    return body, {"X-Event-Checksum": checksum}, {}


@contract
def palomma(e):
    body = obj(
        ("webhookId", text(e.id)),
        ("timestamp", text(rfc3339(e.when))),
        ("eventType", text(e.type)),
        ("event", e.data),
    )
    return (
        body,
        {"X-Encoded-Data": b64(body), "X-Signature": hexmac(e.key, b64(body))},
        {"hmac": b64(body)},
    )


@contract
def openpay(e):
    when = local(e.when, "America/Mexico_City")
    return obj(("type", text(e.type)), ("event_date", text(when)), ("transaction", e.data)), {}, {}


@contract
def flow(e):
    return (
        form(("token", e.json()["token"])),
        {"content-type": "application/x-www-form-urlencoded"},
        {},
    )


@contract
def nuvemshop(e):
    body = obj(
        ("store_id", e.tenant.removeprefix("store-")), ("event", text(e.type.replace(".", "/")))
    )
    body = members_behind(body, e.inner())
    return body, {"x-linkedstore-hmac-sha256": hexmac(e.key, body)}, {"hmac": body}


@contract
def pagbank(e):
    return (
        e.data,
        {
            "x-product-origin": "ORDER",
            "x-product-id": e.json()["id"],
            "x-authenticity-token": sha256(f"{e.secret}-{e.data}").hexdigest(),
        },
        {},
    )


@contract
def ebanx(e):
    body = form(
        ("operation", "payment_status_change"),
        ("notification_type", "update"),
        ("hash_codes", ",".join(e.json()["hash_codes"])),
    )
    return body, {"content-type": "application/x-www-form-urlencoded"}, {}


@contract
def wipay(e):
    amount = re.search(r'"amount":([0-9.]+)', e.data)[1]
    data = e.json()
    signed = data["merchantId"] + data["requestId"] + data["status"] + amount + data["currency"]
    return e.data, {"X-Wipay-Signature": b64mac(e.key, signed)}, {"hmac": signed}


@contract
def efi(e):
    return obj(("pix", f"[{e.data}]")), {}, {}


@contract
def woovi(e):
    body = members_behind(obj(("event", text(e.attributes["event"]))), e.inner())
    return (
        body,
        {
            "x-webhook-signature": b64(e.rsa(body)),
            "X-OpenPix-Signature": b64mac(e.key, body, "sha1"),
        },
        {"rsa": body, "hmac": body},
    )


@contract
def conekta(e):
    body = obj(
        ("data", obj(("object", e.data), ("previous_attributes", "{}"))),
        ("livemode", "true"),
        ("webhook_status", '"pending"'),
        ("id", text(e.id)),
        ("object", '"event"'),
        ("type", text(e.type)),
        ("created_at", str(e.s)),
    )
    return body, {"DIGEST": b64(e.rsa(body))}, {"rsa": body}


@contract
def starkbank(e):
    event = obj(
        ("created", text(rfc3339(e.when, 6)[:-1] + "+00:00")),
        ("id", text(e.id)),
        ("isDelivered", "false"),
        ("log", e.data),
        ("subscription", text(e.parts[0])),
        ("workspaceId", text(e.tenant)),
    )
    body = obj(("event", event))
    return body, {}, {"ecdsa": body}
