"""Delivers the catalogue with a running Pregón and has the senders' own libraries judge it.

For each sender of `senders.toml`: its contract, a subscription with a known secret, an event (the
contract's first example), the request as a receiver on loopback recorded it, and what each library
says:

- it accepts the request;
- it refuses it with another body, with another value of each signed header, and with another key;
- during a rotation, with two keys active, it accepts those that `rotation` names, and no other.

`scripts/senders.sh` sets up what this needs.
"""

import argparse
import base64
import functools
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import threading
import time
import tomllib
import urllib.parse

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
WAIT = 20  # Seconds until a delivery that does not come is a failure.


class Failure(Exception):
    """What did not hold."""


# The receiver.


class Recorder(http.server.ThreadingHTTPServer):
    """Records requests by the first step of their path, and answers each with 200.

    What is a question whether the receiver wants the events is answered as `challenged` says, and
    not recorded.
    """

    def __init__(self, answers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.requests, self.arrived = answers, {}, threading.Condition()
        self.challenged = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"

    def take(self, name, count):
        """The request of this number, from 1, once it is there."""
        with self.arrived:
            if not self.arrived.wait_for(lambda: len(self.requests.get(name, [])) >= count, WAIT):
                raise Failure(f"delivery {count} did not come within {WAIT} s")
            return self.requests[name][count - 1]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one(self):
        name = re.split(r"[/?]", self.path)[1]
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        request = {
            "method": self.command,
            "url": f"http://{self.headers['host']}{self.path}",
            "headers": [[one, value] for one, value in self.headers.items()],
            "body": base64.b64encode(body).decode(),
        }
        answer = None
        if name in self.server.challenged:
            answer = self.server.challenged[name](request, body)
        if answer is None:
            with self.server.arrived:
                self.server.requests.setdefault(name, []).append(request)
                self.server.arrived.notify_all()
            answer = 200, {}, self.server.answers.get(name, "ok")
        status, headers, text = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    do_GET = do_POST = do_HEAD = handle_one

    def log_message(self, *_):
        pass


# Pregón.


class Pregon:
    """A standalone process that keeps nothing, called with grpcurl."""

    def __init__(self, binary, grpcurl, log):
        self.grpcurl = grpcurl
        command = [
            binary,
            "--log-format",
            "text",
            "standalone",
            "--in-memory",
            "--listen",
            "127.0.0.1:0",
        ]
        command += ["--allow-http", "--allow-egress", "127.0.0.0/8"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("PREGON_")}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
        )
        for line in self.process.stdout:
            log.write(line)
            if found := re.search(r"listening on (127\.0\.0\.1:\d+)", line):
                self.address = found[1]
                break
        else:
            raise Failure(f"{binary} ended before it listened")
        threading.Thread(
            target=lambda: [log.write(line) for line in self.process.stdout], daemon=True
        ).start()

    def __call__(self, method, **request):
        service, _, name = method.partition(".")
        command = [
            self.grpcurl,
            "-plaintext",
            "-d",
            "@",
            self.address,
            f"pregon.v1.{service}Service/{name}",
        ]
        done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"{method}: {done.stderr.strip()[:600]}")
        return json.loads(done.stdout)

    def stop(self):
        self.process.terminate()
        self.process.wait(WAIT)


# The libraries.


class Checker:
    """A process that asks libraries of one language; started when it is needed first."""

    def __init__(self, command, folder):
        self.command, self.folder, self.process = command, folder, None

    def ask(self, code, request, key):
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        self.process.stdin.write(json.dumps({"code": code, "request": request, "key": key}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Failure(f"{self.command[0]} ended without an answer")
        answer = json.loads(line)
        return answer["accepted"], answer["why"]

    def stop(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait(WAIT)


def checkers(cache):
    python = [str(cache / "python/bin/python"), str(HERE / "check.py")]
    return {
        "npm": Checker(["node", "check.mjs"], cache / "node"),
        "pypi": Checker(python, cache),
        "go": Checker([str(cache / "go/check")], cache),
        "maven": Checker(["java", "-cp", "maven:maven/lib/*", "Check"], cache),
        "documentation": Checker(python, cache),
    }


# One sender.

# The keys: of the first event, the one it is rotated to, and one that nobody has.
KEYS = {
    "text": [
        "first-secret-0123456789abcdef",
        "second-secret-0123456789abcdef",
        "other-secret-0123456789abcdef",
    ],
    "hex": ["11" * 32, "22" * 32, "33" * 32],
    "base64": [base64.b64encode(bytes([one]) * 32).decode() for one in (1, 2, 3)],
    "64": ["a" * 64, "b" * 64, "c" * 64],
    "32": ["a" * 32, "b" * 32, "c" * 32],
}


# A key pair of Ed25519, RFC 8032, 7.1, test 1: its private and its public key.
ED25519 = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
ED25519_PUBLIC = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


def keys(sender):
    return [sender.get("secret_prefix", "") + key for key in KEYS[sender.get("secret", "text")]]


def public_key(secret):
    """As a receiver has it: Ed25519's is the base64 of its bytes, all others are PEM."""
    return secret.get("publicKey", "").removeprefix("whpk_") or secret["publicKeyPem"]


def other_key(pregon, tenant, sender, contract):
    """A key that nobody signs with: of a pair, that of a subscription that gets nothing."""
    if "kind" not in sender:
        return keys(sender)[2]
    subscription = {"url": "http://127.0.0.1:1/", "event_types": ["never.published"]}
    pregon(
        "Subscription.CreateSubscription",
        parent=f"tenants/{tenant}",
        subscription_id="other",
        subscription=subscription | {"contract": contract},
        secrets=[new_secret(sender) | {"material": ""}],
    )
    name = f"tenants/{tenant}/subscriptions/other/secrets/first"
    return public_key(pregon("Secret.GetSecret", name=name)["secret"])


def first_example(document):
    """The event of the contract's first example: type, data, attributes."""
    sys.path.insert(0, str(ROOT / "contracts/catalog"))
    from vectors.pieces import load

    return load(document)["examples"][0]["event"]


def with_header(request, name, value):
    headers = [
        [one, value if one.lower() == name.lower() else old] for one, old in request["headers"]
    ]
    return request | {"headers": headers}


def header(request, name):
    for one, value in request["headers"]:
        if one.lower() == name.lower():
            return value
    raise Failure(f"the request has no header {name}")


def other_value(value):
    """Another letter or digit at the last but two: base64 may not use all bits of its last."""
    found = list(re.finditer(r"[0-9A-Za-z]", value))[-3:][0]
    swapped = {"0": "1", "a": "b", "A": "B"}.get(
        found[0], "0" if found[0].isdigit() else "a" if found[0].islower() else "A"
    )
    return value[: found.start()] + swapped + value[found.end() :]


def strings(value):
    """Every text in a JSON value, the innermost too."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value] if isinstance(value, str) else [one for each in inner for one in strings(each)]


def with_other_body(request, data, tamper):
    """The request with one text of the event's data changed."""
    body = base64.b64decode(request["body"]).decode()
    if tamper:
        changed = body.replace(*tamper)
        if changed == body:
            raise Failure(f"nothing in the body to change: {tamper}")
        return request | {"body": base64.b64encode(changed.encode()).decode()}
    for text in reversed(strings(json.loads(data))):
        if text.isascii() and re.search(r"\w", text) and body.count(text) == 1:
            changed = body.replace(text, other_value(text))
            return request | {"body": base64.b64encode(changed.encode()).decode()}
    raise Failure("no text of the data stands in the body once")


def with_other_parameter(request, name):
    """The request with another value of a parameter in its URL's query."""
    found = re.search(rf"[?&]{re.escape(name)}=([^&]+)", request["url"])
    if not found:
        raise Failure(f"the URL has no parameter {name}")
    url = request["url"][: found.start(1)] + other_value(found[1]) + request["url"][found.end(1) :]
    return request | {"url": url}


def challenged(sender, verifies):
    """What a receiver answers when it is asked whether it wants the events; None to an event."""
    scope = {"base64": base64, "hashlib": hashlib, "hmac": hmac, "json": json}
    code = "def answer(method, query, h, body, key, verified):\n"
    exec(code + textwrap.indent(sender["challenged"], "    "), scope)
    key = ED25519_PUBLIC if sender.get("kind") else keys(sender)[0]

    def answer(request, body):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(request["url"]).query))
        headers = {one.lower(): value for one, value in request["headers"]}
        verified = functools.partial(verifies, request, key)
        return scope["answer"](request["method"], query, headers, body, key, verified)

    return answer


def prepare(pregon, recorder, name, tenant, sender):
    """Contract, event type, tenant and subscription. → the event to publish."""
    document = (ROOT / "contracts" / sender.get("file", f"catalog/{name}.yaml")).read_text()
    event = first_example(document)
    contract = re.search(r"^contract: (\S+)", document, re.M)[1]
    if not sender.get("built_in"):
        pregon("Contract.CreateContract", contract_id=contract, contract={"document": document})
    try:
        pregon("EventType.CreateEventType", event_type_id=event["type"], event_type={})
    except Failure as failure:
        if "AlreadyExists" not in str(failure):
            raise
    pregon("Tenant.CreateTenant", tenant_id=tenant, tenant={})
    subscription = {
        "url": recorder.url(sender.get("path", name)),
        "event_types": ["*"],
        "contract": f"contracts/{contract}",
        "labels": sender.get("labels", {}),
    }
    if "auth" in sender:
        subscription["auth"] = sender["auth"]
    created = pregon(
        "Subscription.CreateSubscription",
        parent=f"tenants/{tenant}",
        subscription_id="sut",
        subscription=subscription,
        secrets=[] if sender.get("unsigned") else [new_secret(sender)],
    )
    return event, int(created["revision"]), created["subscription"]["contract"]


def new_secret(sender):
    """The secret that a subscription is created with."""
    if kind := sender.get("kind"):
        # A receiver that is asked at once has to know the key before: it is given.
        material = ED25519 if "challenged" in sender else ""
        return {"secret_id": "first", "algorithm": f"SECRET_ALGORITHM_{kind}", "material": material}
    return {"secret_id": "first", "material": keys(sender)[0]}


def active(pregon, tenant):
    """Waits until the receiver's answer has made the subscription active. → the revision since."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        name = f"tenants/{tenant}/subscriptions/sut"
        subscription = pregon("Subscription.GetSubscription", name=name)["subscription"]
        if subscription["state"] == "SUBSCRIPTION_STATE_ACTIVE":
            return int(subscription["revision"])
        time.sleep(0.1)
    raise Failure(f"not verified within {WAIT} s: {subscription.get('verification')}")


def first_key(pregon, tenant, sender):
    """The key of the subscription as a receiver has it: a secret, or a public key."""
    if "kind" not in sender:
        return keys(sender)[0]
    name = f"tenants/{tenant}/subscriptions/sut/secrets/first"
    return public_key(pregon("Secret.GetSecret", name=name)["secret"])


def rotate(pregon, tenant, sender):
    """Makes a second key, beside the first. → the revision with it, and the key as a receiver has it."""
    request = {"parent": f"tenants/{tenant}/subscriptions/sut", "overlap": "3600s"}
    if kind := sender.get("kind"):
        done = pregon("Secret.RotateSecret", algorithm=f"SECRET_ALGORITHM_{kind}", **request)
        return int(done["revision"]), public_key(done["secret"])
    key = keys(sender)[1]
    done = pregon("Secret.RotateSecret", material=key, **request)
    return int(done["revision"]), key


def publish(pregon, tenant, event, number, revision):
    sent = {
        "id": f"event-{number}",
        "type": event["type"],
        "json": event["data"],
        "attributes": event.get("attributes", {}),
    }
    pregon("Event.Publish", tenant=f"tenants/{tenant}", event=sent, min_revision=revision)


# Which of the two keys are accepted while both are active: [the old one, the new one].
ROTATION = {
    "both": [True, True],  # a value for each key
    "newest": [False, True],  # room for one value: the newest key's
    "oldest": [True, False],  # values newest first, and a library that reads the last
}
WORDS = {"both": "either key", "newest": "the new key", "oldest": "the old key"}


def judge(ask, sender, event, first, second, known):
    """What a library says, against what it must say. → what held."""
    one, two, other = known

    def expect(accepted, request, key, what):
        got, why = ask(request, key)
        if got != accepted:
            raise Failure(f"{what} was {'accepted' if got else 'refused'} ({why})")

    expect(True, first, one, "the request")
    refused = []
    if sender.get("signs_body", True):
        expect(
            False, with_other_body(first, event["data"], sender.get("tamper")), one, "another body"
        )
        refused.append("another body")
    for name in sender.get("signed_headers", []):
        expect(
            False,
            with_header(first, name, other_value(header(first, name))),
            one,
            f"another {name}",
        )
        refused.append(f"another {name}")
    for name in sender.get("signed_parameters", []):
        expect(False, with_other_parameter(first, name), one, f"another {name} in the URL")
        refused.append(f"another {name} in the URL")
    if sender.get("signs_url"):
        expect(False, first | {"url": first["url"] + "x"}, one, "another URL")
        refused.append("another URL")
    said = ["accepts"]
    if second is not None:
        expect(False, first, other, "another key")
        refused.append("another key")
    if refused:
        said.append("refuses " + ", ".join(refused))
    if second is not None:
        rotation = sender.get("rotation", "both")
        for key, accepted, which in zip(
            (one, two), ROTATION[rotation], ("old", "new"), strict=True
        ):
            expect(accepted, second, key, f"in a rotation, what the {which} key verifies")
        expect(False, second, other, "in a rotation, another key")
        said.append(f"in a rotation takes {WORDS[rotation]}")
    return "; ".join(said)


def try_sender(pregon, recorder, asks, name, sender):
    """→ a line for each library."""
    tenant = sender.get("tenant", name)
    if "challenged" in sender:
        language, libraries = next(iter(sender["verifiers"].items()))
        ask = functools.partial(asks[language].ask, next(iter(libraries.values())))
        recorder.challenged[name] = challenged(sender, lambda request, key: ask(request, key)[0])
    event, revision, contract = prepare(pregon, recorder, name, tenant, sender)
    if "challenged" in sender:
        revision = active(pregon, tenant)
    publish(pregon, tenant, event, 1, revision)
    known, first, second = (None, None, None), recorder.take(name, 1), None
    if not sender.get("unsigned"):
        one = first_key(pregon, tenant, sender)
        revision, two = rotate(pregon, tenant, sender)
        publish(pregon, tenant, event, 2, revision)
        second = recorder.take(name, 2)
        known = (one, two, other_key(pregon, tenant, sender, contract))
    lines = []
    for language, libraries in sender["verifiers"].items():
        for library, code in libraries.items():
            who = language if language == "documentation" else f"{language} {library}"
            ask = functools.partial(asks[language].ask, code)
            try:
                lines.append(f"{who}: {judge(ask, sender, event, first, second, known)}")
            except Failure as failure:
                raise Failure(f"{who}: {failure}") from None
    return lines


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pregon", required=True, help="the binary")
    parser.add_argument("--grpcurl", required=True)
    parser.add_argument("--cache", required=True, type=pathlib.Path, help="where the libraries are")
    parser.add_argument("names", nargs="*", metavar="NAME", help="senders; all if none is given")
    options = parser.parse_args()
    senders = tomllib.loads((HERE / "senders.toml").read_text())
    if unknown := set(options.names) - senders.keys():
        parser.error(f"no such sender: {', '.join(sorted(unknown))}")
    chosen = {
        name: one for name, one in senders.items() if not options.names or name in options.names
    }
    recorder = Recorder({name: one["answer"] for name, one in chosen.items() if "answer" in one})
    asks = checkers(options.cache.resolve())
    passed = failed = 0
    with open(options.cache / "pregon.log", "w") as log:
        pregon = Pregon(options.pregon, options.grpcurl, log)
        try:
            for name, sender in chosen.items():
                try:
                    for line in try_sender(pregon, recorder, asks, name, sender):
                        print(f"ok    {name}  {line}", flush=True)
                    passed += 1
                except Failure as failure:
                    print(f"FAIL  {name}  {failure}", flush=True)
                    failed += 1
        finally:
            pregon.stop()
            for checker in asks.values():
                checker.stop()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
