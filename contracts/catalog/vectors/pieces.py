"""What the functions of this folder are made of: examples, JSON, time, hashes and codes."""

import base64
import hashlib
import hmac
import importlib.util
import json
import pathlib
import urllib.parse
import zoneinfo

from .keys import ed25519, rsa

__all__ = ["ed25519"]

# The reader of examples and the pieces of JSON are those of the built-in contracts' check.
_ROOT = pathlib.Path(__file__).parents[3]
_spec = importlib.util.spec_from_file_location("built_in", _ROOT / "contracts/expected.py")
_built_in = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_built_in)
load, text, stringify = _built_in.load, _built_in.text, _built_in.stringify
# An object of names and JSON texts; a member without a text is left out.
obj = _built_in.members

# What the examples have that name no other: tenant, subscription, URL, id of the key.
TENANT, SUBSCRIPTION, URL, KEY = "acme", "example", "https://example.com/hook", "example"
# The key of examples that name none.
SHARED = b"0123456789abcdef0123456789abcdef"
# The id of an example's delivery. It follows from the event's time, which is the same in all that use it.
DELIVERY = "06eaih8av80000000001-1"


class Example:
    """One example, with what contracts say of it."""

    def __init__(self, it):
        event = it["event"]
        self.id, self.type, self.data = event["id"], event["type"], event["data"]
        self.attributes = event.get("attributes", {})
        self.tenant = event.get("tenant", TENANT)
        self.url, self.attempt = it.get("url", URL), it.get("attempt", 1)
        self.secret = it.get("secret", "")
        self.key = self.secret.encode() or SHARED
        self.when, self.sent = _built_in.instant(event["time"]), _built_in.instant(it["time"])
        # Of the event and of the attempt: whole seconds, and milliseconds.
        self.s, self.ms = _seconds(self.when)
        self.at, self.at_ms = _seconds(self.sent)
        self.parts = self.type.split(".")

    def json(self):
        return json.loads(self.data)

    def rsa(self, message):
        """Signed with the RSA key of examples that name none."""
        return rsa((_ROOT / "core/src/contract/document/example/rsa.pem").read_text(), message)

    def inner(self):
        """The members of the data, to stand among others."""
        return self.data.strip()[1:-1]


def _seconds(when):
    ms = round(when.timestamp() * 1000)
    return ms // 1000, ms


CONTRACTS = {}


def contract(function):
    CONTRACTS[function.__name__] = function
    return function


def members_behind(body, inner):
    """An object's text with more members behind its own."""
    return f"{body[:-1]},{inner}}}"


def json_parts(e, *names):
    """The texts of these members of the data, which are written without white space."""
    return [json.dumps(e.json()[name], ensure_ascii=False, separators=(",", ":")) for name in names]


def form(*pairs):
    return urllib.parse.urlencode(pairs)


def parts(*pairs):
    """A multipart form, RFC 7578, whose boundary is that of a form without fields; and its type."""
    boundary = "pregon-" + hashlib.sha256(b"{}").hexdigest()[:32]
    head = f"--{boundary}\r\nContent-Disposition: form-data; name="
    body = "".join(f'{head}"{name}"\r\n\r\n{value}\r\n' for name, value in pairs)
    return f"{body}--{boundary}--\r\n", f"multipart/form-data; boundary={boundary}"


def rfc3339(when, digits=3):
    """UTC with Z and this many digits of a second."""
    fraction = f"{when.microsecond:06}000"[:digits]
    return when.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}" if digits else "") + "Z"


def local(when, zone):
    return when.astimezone(zoneinfo.ZoneInfo(zone)).isoformat(timespec="seconds")


def _bytes(value):
    return value.encode() if isinstance(value, str) else value


def mac(key, message, digest="sha256"):
    return hmac.new(key, _bytes(message), digest)


def hexmac(key, message, digest="sha256"):
    return mac(key, message, digest).hexdigest()


def b64mac(key, message, digest="sha256"):
    return b64(mac(key, message, digest).digest())


def b64(data):
    return base64.b64encode(_bytes(data)).decode()


def b64url(data):
    return base64.urlsafe_b64encode(_bytes(data)).decode().rstrip("=")


def sha256(message):
    return hashlib.sha256(message.encode())


def standard(e, body, names="webhook"):
    """Standard Webhooks, and Svix with its own names."""
    key = base64.b64decode(e.secret.removeprefix("whsec_"))
    signed = f"{e.id}.{e.at}.{body}"
    headers = {
        f"{names}-id": e.id,
        f"{names}-timestamp": str(e.at),
        f"{names}-signature": "v1," + b64mac(key, signed),
    }
    return body, headers, {"v1": signed}


def hs256(e, claims):
    """A JSON Web Token: what is signed, and the token."""
    signed = f"{b64url(obj(('alg', text('HS256')), ('typ', text('JWT'))))}.{b64url(claims)}"
    return signed, f"{signed}.{b64url(mac(e.key, signed).digest())}"
