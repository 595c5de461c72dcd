#!/usr/bin/env python3
"""Checks the examples of the catalogue against a second implementation.

Each document beside this file ends in `examples`; Pregón compares them with what it renders and
signs whenever it reads the document. What they expect is computed here once more, by a function
of `vectors` for each sender, written after the sender's public description with nothing but
Python's standard library. The senders' own libraries judge real deliveries: `scripts/senders.sh`.

    python3 contracts/catalog/expected.py           says ok, or every difference, and exits 1
    python3 contracts/catalog/expected.py --show    prints what is computed
"""

import base64
import json
import pathlib
import sys

from vectors import latin_america, messages, payments, platforms, standards
from vectors.keys import ed25519
from vectors.pieces import CONTRACTS, Example, hexmac, load

HERE = pathlib.Path(__file__).parent
# Importing them puts their functions into CONTRACTS.
GROUPS = [latin_america, messages, payments, platforms, standards]


def self_check():
    """The pieces against vectors that others published."""
    # RFC 8032, 7.1, test 2.
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    assert ed25519("whsk_" + base64.b64encode(seed).decode(), "r").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    # RFC 4231, test case 2.
    assert hexmac(b"Jefe", "what do ya want for nothing?") == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def computed(name, it):
    body, headers, signed = CONTRACTS[name](Example(it))
    if not any(one.lower() == "content-type" for one in headers):
        headers = {"content-type": "application/json"} | headers
    return {"body": body, "headers": headers} | ({"signed": signed} if signed else {})


def check(name):
    """What differs in a document."""
    for index, it in enumerate(load((HERE / f"{name}.yaml").read_text())["examples"]):
        found, want = it.get("expect", {}), computed(name, it)
        # One line feed at the end of an expected body is not part of it.
        found["body"] = found["body"].removesuffix("\n")
        for key in want.keys() | found.keys():
            if found.get(key) != want.get(key):
                yield f"{name}: examples[{index}].expect.{key}"
                yield f"  computed {want.get(key)!r}\n  in the file {found.get(key)!r}"


def show(name):
    for it in load((HERE / f"{name}.yaml").read_text())["examples"]:
        print(name, json.dumps(computed(name, it), ensure_ascii=False, indent=1))


def main():
    self_check()
    names = {path.stem for path in HERE.glob("*.yaml")}
    wrong = [
        f"{name}.yaml: no second implementation here" for name in sorted(names - CONTRACTS.keys())
    ]
    wrong += [f"{name}: no document here" for name in sorted(CONTRACTS.keys() - names)]
    for name in sorted(names & CONTRACTS.keys()):
        if "--show" in sys.argv[1:]:
            show(name)
        wrong += check(name)
    print("\n".join(wrong) if wrong else f"ok: {len(names)} contracts")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
