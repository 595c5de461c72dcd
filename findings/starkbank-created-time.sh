#!/bin/sh
# What: starkbank 2.36.0 (PyPI, with starkcore 0.8.0), which parses an event after it has verified its
#   signature, reads times that end with `+00:00` and no others: `2026-03-01T12:00:00.123Z` and
#   `…-03:00` are a RuntimeError. What it reads it makes a time without a zone.
# Why one would guess otherwise: `Z` is RFC 3339's own way to write UTC, and what most senders write;
#   Python's datetime.fromisoformat, since 3.11, reads all three, each with its zone.
# For senders: an event is rightly signed and still fails in its receiver, for its `created`; write
#   `+00:00`. Digits of the second's fraction may be any number up to six.
# Needs: python3 (3.11 or later) with venv, and a network. Fails if what it sees is not the above.
# Output seen:
#   2026-03-01T12:00:00.123456+00:00: read, zone None
#   2026-03-01T12:00:00+00:00: read, zone None
#   2026-03-01T12:00:00.123Z: RuntimeError
#   2026-03-01T09:00:00.123456-03:00: RuntimeError
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check starkbank==2.36.0 starkcore==0.8.0
venv/bin/python - > seen <<'END'
from datetime import datetime
from starkcore.utils.checks import check_datetime
for text in ["2026-03-01T12:00:00.123456+00:00", "2026-03-01T12:00:00+00:00",
             "2026-03-01T12:00:00.123Z", "2026-03-01T09:00:00.123456-03:00"]:
    assert datetime.fromisoformat(text).tzinfo is not None
    try:
        print(f"{text}: read, zone {check_datetime(text).tzinfo}")
    except RuntimeError as error:
        print(f"{text}: {type(error).__name__}")
END

cat seen
cat > wanted <<'END'
2026-03-01T12:00:00.123456+00:00: read, zone None
2026-03-01T12:00:00+00:00: read, zone None
2026-03-01T12:00:00.123Z: RuntimeError
2026-03-01T09:00:00.123456-03:00: RuntimeError
END
diff wanted seen && echo "as described"
