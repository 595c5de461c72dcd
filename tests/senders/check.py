"""Asks a library for Python, or a few lines after a sender's documentation, about a request.

A line in is `{"code", "request", "key"}`, a line out `{"accepted", "why"}`. The code is a function
body of `senders.toml`. It may use `body` (bytes), `text`, `h` (headers by lower-case name),
`raw_headers` (by name as sent), `url`, `key` (the secret as text, or a public key) and the helpers
below. It accepts by returning anything but False and None.
"""

import base64
import hashlib
import hmac
import json
import sys
import textwrap
import time
import urllib.parse
import zlib


def mac(key, message, digest="sha256"):
    """An HMAC; text is taken as UTF-8."""
    as_bytes = lambda value: value.encode() if isinstance(value, str) else value  # noqa: E731
    return hmac.new(as_bytes(key), as_bytes(message), digest)


def b64(data):
    return base64.b64encode(data).decode()


def b64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def form(body):
    return dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))


def fresh(seconds, within=300):
    """Fails for a time that is not now."""
    assert abs(time.time() - int(seconds)) <= within, f"{seconds} is not within {within} s of now"


def rsa_sha256(pem, message, signature):
    """Fails unless the base64 is a signature, PKCS#1 v1.5, by this public key."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding

    key = serialization.load_pem_public_key(pem.encode())
    key.verify(
        base64.b64decode(signature, validate=True), message, padding.PKCS1v15(), hashes.SHA256()
    )
    return True


TOOLS = {
    "base64": base64,
    "hashlib": hashlib,
    "hmac": hmac,
    "json": json,
    "time": time,
    "urllib": urllib,
    "zlib": zlib,
    "mac": mac,
    "b64": b64,
    "b64url": b64url,
    "form": form,
    "fresh": fresh,
    "rsa_sha256": rsa_sha256,
}
COMPILED = {}


def ask(code, request, key):
    if code not in COMPILED:
        scope = dict(TOOLS)
        exec(
            "def verifier(body, text, h, raw_headers, url, key):\n" + textwrap.indent(code, "    "),
            scope,
        )
        COMPILED[code] = scope["verifier"]
    body = base64.b64decode(request["body"])
    headers = {name.lower(): value for name, value in request["headers"]}
    return COMPILED[code](
        body, body.decode(), headers, dict(request["headers"]), request["url"], key
    )


def main():
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = ask(asked["code"], asked["request"], asked["key"])
            accepted, why = answer is not None and answer is not False, f"answered {answer!r}"[:200]
        except Exception as error:  # A refusal, whatever its class.
            accepted, why = False, f"{type(error).__name__}: {error}"[:200]
        print(json.dumps({"accepted": accepted, "why": why}), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    # Libraries may print; the answers have the real output to themselves.
    sys.stdout = sys.stderr
    main()
