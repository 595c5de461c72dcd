"""What examples of standards, and what clouds send expect.

Each function is one contract: example → body, headers, signed texts by name. A content type is
among the headers if it is not JSON's.
"""

from .pieces import SUBSCRIPTION, b64, b64mac, contract, obj, rfc3339, sha256, standard, text


@contract
def svix(e):
    return standard(e, e.data, "svix")


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
def sns(e):
    topic, when = f"arn:aws:sns:us-east-1:{e.tenant}:{SUBSCRIPTION}", rfc3339(e.when)
    pairs = [
        ("Message", e.data),
        ("MessageId", e.id),
        ("Timestamp", when),
        ("TopicArn", topic),
        ("Type", "Notification"),
    ]
    signed = "".join(f"{name}\n{value}\n" for name, value in pairs)
    body = obj(
        ("Type", '"Notification"'),
        ("MessageId", text(e.id)),
        ("TopicArn", text(topic)),
        ("Message", text(e.data)),
        ("Timestamp", text(when)),
        ("SignatureVersion", '"2"'),
        (
            "SigningCertURL",
            '"https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0000.pem"',
        ),
        ("UnsubscribeURL", '"https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe"'),
        ("Signature", text(b64(e.rsa(signed)))),
    )
    return (
        body,
        {
            "content-type": "text/plain; charset=UTF-8",
            "x-amz-sns-message-type": "Notification",
            "x-amz-sns-message-id": e.id,
            "x-amz-sns-topic-arn": topic,
        },
        {},
    )
