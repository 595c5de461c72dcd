"""Signatures of key pairs, for which Python's standard library has nothing: Ed25519 and RSA."""

import base64
import hashlib

# Ed25519, RFC 8032, 5.1.

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
BASE = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    4 * pow(5, P - 2, P) % P,
)


def added(one, two):
    """The sum of two points of the curve."""
    (x1, y1), (x2, y2) = one, two
    cross = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + cross, P - 2, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - cross, P - 2, P)
    return x % P, y % P


def times(scalar, point):
    total = (0, 1)
    while scalar:
        if scalar & 1:
            total = added(total, point)
        point, scalar = added(point, point), scalar >> 1
    return total


def encoded(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def ed25519(secret, message):
    """Signs with a key as `whsk_` and the base64 of its seed."""
    seed = base64.b64decode(secret.removeprefix("whsk_"))[:32]
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    public = encoded(times(scalar, BASE))
    nonce = int.from_bytes(hashlib.sha512(digest[32:] + message.encode()).digest(), "little") % L
    commitment = encoded(times(nonce, BASE))
    hashed = hashlib.sha512(commitment + public + message.encode()).digest()
    challenge = int.from_bytes(hashed, "little") % L
    return commitment + ((nonce + challenge * scalar) % L).to_bytes(32, "little")


# RSA, PKCS#1 v1.5 with SHA-256, RFC 8017, 8.2.1 and 9.2.

SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")


def der(data):
    """The elements of a DER sequence's content: (tag, content) each."""
    at, elements = 0, []
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        elements.append((tag, data[at : at + length]))
        at += length
    return elements


def rsa(pem, message):
    """Signs with a private key in a PKCS#8 PEM."""
    lines = [line for line in pem.strip().splitlines() if not line.startswith("-")]
    ((_, info),) = der(base64.b64decode("".join(lines)))
    _, _, (_, inner) = der(info)[:3]
    ((_, key),) = der(inner)
    numbers = [int.from_bytes(content, "big") for _, content in der(key)]
    modulus, private = numbers[1], numbers[3]
    size = (modulus.bit_length() + 7) // 8
    hashed = SHA256_PREFIX + hashlib.sha256(message.encode()).digest()
    padded = b"\x00\x01" + b"\xff" * (size - len(hashed) - 3) + b"\x00" + hashed
    return pow(int.from_bytes(padded, "big"), private, modulus).to_bytes(size, "big")
