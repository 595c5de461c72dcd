"""Verifies signatures of RSA and ECDSA with the `cryptography` library.

Reads one JSON object a line: {"algorithm": as in a contract, "public": PEM, "signature": base64, "signed": base64}. Writes
one a line in the same order: {"ok": true} or {"ok": false, "error": "…"}.
"""

import base64
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import load_pem_public_key

PSS = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=32)
HOW = {
    "rsa_sha256": (padding.PKCS1v15(), SHA256()),
    "rsa_pss_sha256": (PSS, SHA256()),
    "ecdsa_p256": (ec.ECDSA(SHA256()),),
    "ecdsa_p521": (ec.ECDSA(SHA512()),),
    "ecdsa_secp256k1": (ec.ECDSA(SHA256()),),
}


def verify(asked):
    public = load_pem_public_key(asked["public"].encode())
    signature, signed = (base64.b64decode(asked[name]) for name in ("signature", "signed"))
    try:
        public.verify(signature, signed, *HOW[asked["algorithm"]])
    except InvalidSignature:
        return {"ok": False, "error": "the signature is wrong"}
    return {"ok": True}


for line in sys.stdin:
    print(json.dumps(verify(json.loads(line))))
