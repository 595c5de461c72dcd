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
python3 contracts/catalog/expected.py

step "lints"
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

step "dependencies"
./scripts/deny.sh

if command -v promtool >/dev/null; then
    step "alerts"
    promtool check rules deploy/telemetry/prometheus/alerts.yaml
    promtool test rules deploy/telemetry/prometheus/alerts_test.yaml
fi

step "tests"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --workspace --locked "$@" 2>&1 | tee "$log"

# Two other servers, with everysec (at `memory`) and with always (at `fsync`); what is promised with everysec at `fsync`
# is tried by cases of its own, in every run. Random histories are left out, and so is a run with arguments.
for server in redis-server-8 valkey-server-9; do
    if [ $# -gt 0 ]; then break; fi
    step "the engine and load on $server"
    if ! command -v "$server" >/dev/null; then
        echo "SKIPPED: there is no $server; scripts/tools.sh says why"
        continue
    fi
    export PREGON_TEST_REDIS=$server PREGON_TEST_EVENTS=2000
    for appendfsync in everysec always; do
        PREGON_TEST_APPENDFSYNC=$appendfsync cargo test --workspace --locked --test conformance_redis -- \
            --skip histories 2>&1 | tee -a "$log"
    done
    cargo test --workspace --locked --test e2e planes::load::a_node_ -- --skip confirmed 2>&1 | tee -a "$log"
done

# A name server on port 53 that answers for one name only, in namespaces of its own.
apart() {
    unshare --map-root-user --mount --net sh -c '
        set -e
        echo "nameserver 127.0.0.153" > "$0"
        mount --bind "$0" /etc/resolv.conf
        ip link set lo up
        exec "$@"' "$resolv" "$@"
}
if [ $# -eq 0 ]; then
    step "silent names"
    resolv=$(mktemp)
    trap 'rm -f "$log" "$resolv"' EXIT
    if apart true 2>/dev/null; then
        apart cargo test --workspace --locked --offline --test e2e neighbours::names -- --ignored --test-threads 1 2>&1 | tee -a "$log"
    else
        echo "SKIPPED: no namespaces can be made here (unshare, ip)"
    fi
fi

# The sum of cargo's summaries, one for each test program.
step "done"
[ -x .tools/bin/vault-transit ] || echo "SKIPPED: the stories of a KMS: there is no Vault; scripts/tools.sh says why"
awk '/^test result: /{ passed += $4; failed += $6; skipped += $8 }
    END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$log"
