#!/usr/bin/env bash
# Everything that must hold of a commit: installs what it needs, then checks formatting, lints, the API's proto files and
# the golden vectors of the built-in contracts, and runs every test: unit, property, conformance, documentation, and end
# to end against real processes. Stops at the first failure. CI runs just this.
#
# Alerts are also tried with promtool where it is installed; building it takes longer than the tests are worth waiting for:
# `go install github.com/prometheus/prometheus/cmd/promtool@v0.316.0`.
#
# One profile (dev) serves all of it, so that nothing is built twice. Arguments go to `cargo test`, as in
# `./scripts/test.sh --test e2e kill`.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
PATH=$PATH:$root/.tools/bin
started=$SECONDS

step() { printf '\n== %s (%d s)\n' "$1" $((SECONDS - started)); }

step "tools"
./scripts/tools.sh

step "formatting"
cargo fmt --all --check

step "proto files"
./scripts/buf-lint.sh

step "golden vectors"
python3 contracts/expected.py

step "lints"
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

if command -v cargo-deny >/dev/null; then
    step "dependencies"
    cargo deny --all-features check bans licenses sources
fi

if command -v promtool >/dev/null; then
    step "alerts"
    promtool check rules deploy/telemetry/prometheus/alerts.yaml
    promtool test rules deploy/telemetry/prometheus/alerts_test.yaml
fi

step "tests"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --workspace --locked "$@" 2>&1 | tee "$log"

# The sum of cargo's summaries, one for each test program.
step "done"
awk '/^test result: /{ passed += $4; failed += $6; skipped += $8 }
    END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$log"
