#!/usr/bin/env bash
# Most memory of a `pregon standalone` that has 4096 events of 256 KiB for 64 receivers, each of which
# takes 13 s to answer: `scripts/memory.sh [FLAG…]`, with flags for pregon. docs/benchmarks.md has what
# it printed. Needs grpcurl, curl and 2 GB of disk for a minute. PREGON_BIN and PREGON_BENCH_BIN are
# the binaries; without them releases are built.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
PATH=$PATH:$root/.tools/bin
target=${CARGO_TARGET_DIR:-$root/target}/release
if [ -z "${PREGON_BIN:-}" ] || [ -z "${PREGON_BENCH_BIN:-}" ]; then
    cargo build --release --locked --quiet --bin pregon --package pregon-bench --package pregon
fi
pregon=${PREGON_BIN:-$target/pregon}
bench=${PREGON_BENCH_BIN:-$target/pregon-bench}

dir=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait; rm -rf "$dir"' EXIT

# The first address of loopback in a file, once it is there.
address() {
    for _ in $(seq 300); do
        grep -oE -m 1 '127\.0\.0\.1:[0-9]+' "$1" | head -n 1 | grep . && return
        sleep 0.1
    done
    echo "memory.sh: nothing listens: $(cat "$1")" >&2
    return 1
}
call() { grpcurl -plaintext -d "$2" "$server" "pregon.v1.$1" >/dev/null; }

"$bench" sink --delay 13000 >"$dir/sink" 2>&1 &
pids+=($!)
sink=$(address "$dir/sink")
"$pregon" standalone --listen 127.0.0.1:0 --data-dir "$dir/data" --allow-http \
    --allow-egress 127.0.0.0/8 "$@" >"$dir/pregon" 2>&1 &
pids+=($!)
of=$!
server=$(address "$dir/pregon")

call EventTypeService/CreateEventType '{"event_type_id": "bench.event", "event_type": {}}'
for n in $(seq 0 63); do
    call TenantService/CreateTenant "{\"tenant_id\": \"bench-$n\", \"tenant\": {}}"
    call SubscriptionService/CreateSubscription "{\"parent\": \"tenants/bench-$n\",
        \"subscription_id\": \"slow\", \"subscription\": {\"url\": \"http://$sink/r/$n\",
        \"event_types\": [\"bench.event\"], \"contract\": \"contracts/standard_webhooks\",
        \"max_concurrency\": 100}}"
done
"$bench" load --target "$server" --tenants 64 --events 4096 --batch 11 --concurrency 4 \
    --seconds 60 --size 262000 >"$dir/load"
# Some rounds of the receivers' 13 s.
answered=0
for _ in $(seq 120); do
    # The first is of all receivers.
    answered=$(curl --silent "http://$sink/stats" | sed -E 's/^\{"received":([0-9]+),.*/\1/')
    [ "$answered" -ge 1024 ] && break
    sleep 1
done
[ "$answered" -ge 1024 ] || { echo "memory.sh: $answered answers in two minutes" >&2; exit 1; }
peak=$(awk '/VmHWM/ { print int($2 / 1024) }' "/proc/$of/status")
echo "$peak MiB at most, $answered requests received"
