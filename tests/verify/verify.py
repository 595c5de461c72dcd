"""Verifies received requests with the official Standard Webhooks library.

Reads one JSON object a line: {"secret": "whsec_…", "headers": [[name, value], …], "body": base64}. Writes one a line in
the same order: {"ok": true} or {"ok": false, "error": "…"}.
"""

import base64
import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def verify(request):
    headers = {name.lower(): value for name, value in request["headers"]}
    body = base64.b64decode(request["body"])
    try:
        Webhook(request["secret"]).verify(body, headers)
    except WebhookVerificationError as error:
        return {"ok": False, "error": str(error)}
    return {"ok": True}


for line in sys.stdin:
    print(json.dumps(verify(json.loads(line))))
