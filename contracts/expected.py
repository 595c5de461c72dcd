#!/usr/bin/env python3
"""Checks the examples of the built-in contracts against a second implementation.

Each `*.yaml` beside this file ends in `examples`: what goes in (event, attempt, time, secret) and
what a receiver must see (body, headers, signed strings). Pregón renders every example when it loads
the file and compares. So that it is not compared with itself, everything expected is computed here
once more from the inputs, by code written for each contract from its company's text, with nothing
but Python's standard library; the bodies are held against the companies' own samples as well.

    python3 contracts/expected.py           says ok, or every difference, and exits 1
    python3 contracts/expected.py --show    prints what is computed, to be copied into a new example

The reader below knows only the YAML that these files use in `types` and `examples`. Headers: the ones that
an example names, in order; `x-delivery-id` is different for every delivery and not named, and
`user-agent` is the deployment's.
"""

import base64
import datetime
import decimal
import hashlib
import hmac
import json
import pathlib
import sys
import urllib.parse
import zoneinfo

HERE = pathlib.Path(__file__).parent
JSON_TYPE = {"content-type": "application/json"}


# Reading: block mappings and lists, comments on lines of their own, `|` and `|-`, quoted and plain text.


def load(text):
    """`types` and `examples` of one file."""
    lines = text.split("\n")
    starts = [i for i, line in enumerate(lines) if line and line[0] not in " #-"]
    out = {}
    for start, end in zip(starts, starts[1:] + [len(lines)]):
        key = lines[start].partition(":")[0]
        if key in ("types", "examples"):
            out[key] = Block(lines[start + 1 : end]).node(2)
    return out


class Block:
    """Lines, read from the first."""

    def __init__(self, lines):
        self.lines, self.at = lines, 0

    def indent(self):
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.strip() and not line.strip().startswith("#"):
                return len(line) - len(line.lstrip())
            self.at += 1
        return -1

    def node(self, indent):
        self.indent()
        if self.lines[self.at].lstrip().startswith("- "):
            elements = []
            while self.indent() == indent and self.lines[self.at].lstrip().startswith("- "):
                self.lines[self.at] = self.lines[self.at].replace("- ", "  ", 1)
                elements.append(self.node(indent + 2))
            return elements
        members = {}
        while self.indent() == indent:
            key, colon, value = self.lines[self.at].strip().partition(":")
            if not colon or key in members or (value and value[0] != " "):
                raise SystemExit(f"cannot read the line {self.lines[self.at]!r}")
            self.at += 1
            members[key] = self.value(value.strip(), indent)
        return members

    def value(self, text, indent):
        if text in ("|", "|-"):
            lines = []
            while self.at < len(self.lines):
                line = self.lines[self.at]
                if line.strip() and len(line) - len(line.lstrip()) <= indent:
                    break
                lines.append(line[indent + 2 :])
                self.at += 1
            return "\n".join(lines).rstrip("\n") + ("\n" if text == "|" else "")
        if text == "":
            return self.node(self.indent())
        if text[0] in "[{&*!'>#" or " #" in text:
            raise SystemExit(f"cannot read the value {text!r}")
        if text[0] == '"' or text.isdigit():
            return json.loads(text)
        return text


# What several contracts share.


def instant(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def millis(text):
    return instant(text).strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant(text).microsecond // 1000:03}Z"


def seconds(text):
    return int((instant(text) - instant("1970-01-01T00:00:00Z")) // datetime.timedelta(seconds=1))


def text(value):
    """A JSON string with the fewest escapes."""
    return json.dumps(value, ensure_ascii=False)


def members(*pairs):
    """An object of names and JSON texts; a member without a text is left out."""
    return "{" + ",".join(f"{text(name)}:{value}" for name, value in pairs if value is not None) + "}"


def unique_id(event):
    version = event.get("version", 0)
    return event["id"] if version == 0 else f"{event['id']}-v{version}"


def mac(key, message):
    return hmac.new(key, message.encode(), hashlib.sha256)


# The contracts. Each: example → body, headers, signed strings.


def standard_webhooks(it):
    event = it["event"]
    body = members(("type", text(event["type"])), ("timestamp", text(millis(event["time"]))), ("data", event["data"]))
    at = str(seconds(it["time"]))
    signed = f"{unique_id(event)}.{at}.{body}"
    headers = JSON_TYPE | {
        "webhook-id": unique_id(event),
        "webhook-timestamp": at,
        "webhook-signature": standard_signature(it["secret"], signed),
    }
    return body, headers, {"v1": signed}


def standard_signature(secret, signed):
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(mac(key, signed).digest()).decode()


def cloudevents(it):
    event = it["event"]
    subject = event.get("attributes", {}).get("subject")
    body = members(
        ("specversion", text("1.0")),
        ("id", text(unique_id(event))),
        ("source", text("/tenants/" + event["tenant"])),
        ("type", text(event["type"])),
        ("subject", None if subject is None else text(subject)),
        ("time", text(millis(event["time"]))),
        ("datacontenttype", text("application/json")),
        ("data", event["data"]),
    )
    return body, {"content-type": "application/cloudevents+json; charset=utf-8"}, {}


def cloudevents_binary(it):
    event = it["event"]
    subject = event.get("attributes", {}).get("subject")
    headers = JSON_TYPE | {
        "ce-specversion": "1.0",
        "ce-id": unique_id(event),
        "ce-source": "/tenants/" + event["tenant"],
        "ce-type": event["type"],
    }
    if subject is not None:
        # The HTTP binding, 3.1.3.2: the rest of printable ASCII goes as it is.
        plain = "".join(map(chr, range(0x21, 0x7F))).replace('"', "").replace("%", "")
        headers["ce-subject"] = urllib.parse.quote(subject, safe=plain)
    return event["data"], headers | {"ce-time": millis(event["time"])}, {}


def preauth(it):
    event = it["event"]
    return members(("type", text(event["type"])), ("order", event["data"])), JSON_TYPE, {}


def operator(it):
    return members(("type", text("operator")), ("data", it["event"]["data"])), JSON_TYPE, {}


def mercadopago_wallet_connect(it):
    event = it["event"]
    entity, _, action = event["type"].partition(".")
    body = members(
        ("id", text(event["id"])),
        ("type", text("wallet_connect")),
        ("entity", text(entity)),
        ("action", text(action)),
        ("date", text(instant(event["time"]).strftime("%Y-%m-%dT%H:%M:%SZ"))),
        ("model_version", "1"),
        ("version", str(event.get("version", 0))),
        ("data", event["data"]),
    )
    return body, JSON_TYPE, {}


def tusfacturas(it):
    event = it["event"]
    resource, _, what = event["type"].partition(".")
    data = json.loads(event["data"])
    local = instant(event["time"]).astimezone(zoneinfo.ZoneInfo("America/Argentina/Buenos_Aires"))
    body = members(
        ("creado", text(local.strftime("%d/%m/%Y %H:%M:%S"))),
        ("evento", text(what)),
        ("recurso", text(resource)),
        ("external_reference", text(data["external_reference"])),
        ("intento", str(it["attempt"])),
        ("msg", "[" + ",".join(text(one) for one in data.get("msg", [])) + "]"),
        ("hook_id", text(event["id"])),
    )
    return body, JSON_TYPE, {}


def crypto_onramp(it):
    event = it["event"]
    # JSON.stringify of what the text shows, in this order.
    whole = {"eventName": event["type"]} | json.loads(event["data"]) | {"timeStamp": millis(event["time"])}
    signed = stringify(whole)
    if "secret" not in it:
        return signed, JSON_TYPE, {}
    signature = mac(it["secret"].encode(), signed).hexdigest()
    return stringify(whole | {"signature": signature}), JSON_TYPE, {"body": signed}


def stringify(value):
    """ECMAScript's JSON.stringify."""
    if isinstance(value, dict):
        indices = sorted((name for name in value if is_index(name)), key=int)
        names = indices + [name for name in value if not is_index(name)]
        return members(*((name, stringify(value[name])) for name in names))
    if isinstance(value, list):
        return "[" + ",".join(map(stringify, value)) + "]"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number(float(value))
    return text(value)


def is_index(name):
    return name.isascii() and name.isdigit() and str(int(name)) == name and int(name) < 2**32 - 1


def number(value):
    """ECMAScript's Number::toString, over the shortest digits, which Python finds too."""
    if value == 0:
        return "0"
    sign, digits, exponent = decimal.Decimal(repr(value)).normalize().as_tuple()
    sign, every = "-" * sign, "".join(map(str, digits))
    point = len(every) + exponent
    if len(every) <= point <= 21:
        return sign + every + "0" * exponent
    if 0 < point <= 21:
        return f"{sign}{every[:point]}.{every[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{every}"
    fraction = "." + every[1:] if every[1:] else ""
    return f"{sign}{every[0]}{fraction}e{point - 1:+}"


CONTRACTS = [
    standard_webhooks,
    cloudevents,
    cloudevents_binary,
    preauth,
    operator,
    mercadopago_wallet_connect,
    tusfacturas,
    crypto_onramp,
]

# Samples whose bytes, without white space, must be the body of an example.
SAMPLES = {
    "preauth": "1-*.json",
    "operator": "2-*.json",
    "mercadopago_wallet_connect": "3-*.json",
    "tusfacturas": "4-*.json",
    "crypto_onramp": "5-*.json",
}


def compact(sample):
    return json.dumps(json.loads(sample), ensure_ascii=False, separators=(",", ":"))


def unsigned(body):
    """Without the crypto signature: the one in the company's text has no known secret."""
    return body.partition(',"signature":')[0]


def check(contract, show):
    name = contract.__name__
    document = load((HERE / f"{name}.yaml").read_text())
    wrong = []
    bodies = []
    for index, it in enumerate(document["examples"]):
        json.loads(it["event"]["data"])
        body, headers, signed = contract(it)
        bodies.append(body)
        expect = it.get("expect", {})
        computed = {"body": body, "headers": headers} | ({"signed": signed} if signed else {})
        if show:
            print(f"{name} examples[{index}]", json.dumps(computed, ensure_ascii=False, indent=1))
        if unknown := expect.keys() - computed.keys():
            wrong.append(f"{name}: examples[{index}].expect: unknown {unknown}")
        for key, value in computed.items():
            found = expect.get(key)
            same = list(found.items()) == list(value.items()) if isinstance(found, dict) else found == value
            if not same:
                wrong.append(f"{name}: examples[{index}].expect.{key}\n  computed {value!r}\n  in the file {found!r}")
    for one in document.get("types", []):
        json.loads(one["schema"]), json.loads(one["example"])
        if one["type"] not in [it["event"]["type"] for it in document["examples"]]:
            wrong.append(f"{name}: no example of type {one['type']}")
    for sample in sorted((HERE / "samples").glob(SAMPLES.get(name, "none"))):
        strip = unsigned if name == "crypto_onramp" else str
        if strip(compact(sample.read_text())) not in map(strip, bodies):
            wrong.append(f"{name}: no example gives {sample.name}")
    return len(bodies), wrong


def self_check():
    """The pieces against vectors that others published."""
    # The reference libraries of Standard Webhooks.
    signed = 'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}'
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert standard_signature(secret, signed) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    # RFC 8785, appendix B, and API.md 7.2.
    for value, figures in [
        (1.0, "1"), (-0.0, "0"), (1e2, "100"), (1e21, "1e+21"), (9007199254740993, "9007199254740992"),
        (5e-324, "5e-324"), (1.7976931348623157e308, "1.7976931348623157e+308"), (0.000001, "0.000001"),
        (1e-7, "1e-7"), (-1e-7, "-1e-7"), (333333333.3333332, "333333333.3333332"), (1e23, "1e+23"),
        (9.999999999999997e22, "9.999999999999997e+22"), (295147905179352830000.0, "295147905179352830000"),
        (-0.0000033333333333333333, "-0.0000033333333333333333"), (100.5, "100.5"), (120.0, "120"),
    ]:
        assert number(float(value)) == figures, figures


def main():
    self_check()
    examples, wrong = 0, []
    for contract in CONTRACTS:
        count, found = check(contract, "--show" in sys.argv[1:])
        examples, wrong = examples + count, wrong + found
    others = {path.stem for path in HERE.glob("*.yaml")} - {one.__name__ for one in CONTRACTS}
    wrong += [f"{name}.yaml: no second implementation here" for name in sorted(others)]
    print("\n".join(wrong) if wrong else f"ok: {examples} examples of {len(CONTRACTS)} contracts")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
