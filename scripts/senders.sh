#!/usr/bin/env bash
# Delivers the contracts of contracts/catalog with a running Pregón and has the senders' own client
# libraries judge the requests: `scripts/senders.sh` tries all, `scripts/senders.sh stripe github`
# these. docs/senders.md says what is tried, tests/senders/senders.toml with which library.
#
# Needs python3 (3.11 or later) with venv, node and npm, go, a JDK and mvn, and grpcurl. The libraries
# come from their registries and are kept, with all that they need, in SENDERS_CACHE (.tools/senders
# by default). PREGON_BIN is the binary; without it a release is built.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
PATH=$PATH:$root/.tools/bin
cache=${SENDERS_CACHE:-$root/.tools/senders}
here=$root/tests/senders

for tool in python3 node npm go javac mvn grpcurl; do
    command -v "$tool" >/dev/null || { echo "senders.sh: there is no $tool on the PATH" >&2; exit 1; }
done
mkdir -p "$cache"/{node,go,maven}

if [ -z "${PREGON_BIN:-}" ]; then
    cargo build --release --locked --quiet --bin pregon
    PREGON_BIN=${CARGO_TARGET_DIR:-$root/target}/release/pregon
fi

# What senders.toml names, as each installer wants it; installed again only when that changes.
python3 "$here/libraries.py" "$cache"
python3 "$here/page.py" --check
same() { cmp -s "$1" "$1.installed" && [ -e "$2" ]; }
done_with() { cp "$1" "$1.installed"; }

if ! same "$cache/node/package.json" "$cache/node/node_modules"; then
    (cd "$cache/node" && npm install --legacy-peer-deps --ignore-scripts --no-audit --no-fund --loglevel=error)
    done_with "$cache/node/package.json"
fi
cp "$here/check.mjs" "$cache/node/"

if ! same "$cache/requirements.txt" "$cache/python"; then
    rm -rf "$cache/python"
    python3 -m venv "$cache/python"
    # Two of them bound a dependency that others want newer; they verify with it all the same.
    "$cache/python/bin/pip" install --quiet --disable-pip-version-check -r "$cache/requirements.txt"
    "$cache/python/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$cache/requirements-alone.txt"
    done_with "$cache/requirements.txt"
fi

(cd "$here/go" && go build -o "$cache/go/check" .)

cat "$here/maven/pom.xml" "$here/maven/Check.java" >"$cache/maven/sources"
if ! same "$cache/maven/sources" "$cache/maven/Check.class"; then
    mvn --quiet --batch-mode -f "$here/maven/pom.xml" dependency:copy-dependencies -DoutputDirectory="$cache/maven/lib"
    javac -d "$cache/maven" -cp "$cache/maven/lib/*" "$here/maven/Check.java"
    done_with "$cache/maven/sources"
fi

exec python3 "$here/run.py" --pregon "$PREGON_BIN" --grpcurl "$(command -v grpcurl)" --cache "$cache" "$@"
