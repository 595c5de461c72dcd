"""Verifies requests with Stripe's own library, as its receivers do.

Reads one JSON object a line: {"secret": "whsec_…", "header": "t=…,v1=…", "body": base64, "tolerance": seconds or null}.
Writes one a line in the same order: {"ok": true, "id": …, "type": …} of the event, or {"ok": false, "error": "…"}.
"""

import base64
import json
import sys

import stripe


def verify(request):
    body = base64.b64decode(request["body"])
    try:
        event = stripe.Webhook.construct_event(body, request["header"], request["secret"], request["tolerance"])
    except stripe.SignatureVerificationError as error:
        return {"ok": False, "error": error.user_message}
    # The same question without an event made of the body.
    stripe.WebhookSignature.verify_header(body, request["header"], request["secret"], request["tolerance"])
    return {"ok": True, "id": event.id, "type": event.type}


for line in sys.stdin:
    print(json.dumps(verify(json.loads(line))))
