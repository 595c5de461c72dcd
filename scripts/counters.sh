#!/usr/bin/env bash
# Counts what a delivery takes of the server: instructions, and calls of the allocator. Fails where one grew by more than a
# tenth over the table in docs/benchmarks.md; with --print it prints that table's rows and compares nothing. Three paths, on the
# embedded store:
#   fast     published in batches to a receiver that answers at once, attempted from memory;
#   unary    the same, published one event a call by 64 callers over four connections;
#   stored   published while the subscription is paused, so that each delivery waits in its lane; not delivered.
# What a delivery takes is the difference of two runs, of 1,000 and of 3,000 events, divided by 2,000: start and end cancel out.
# Counts do not depend on how busy the machine is; they move by some per cent with how results happen to be batched.
# Needs valgrind, grpcurl (scripts/tools.sh), curl, and `cargo build --release --workspace`. Takes two minutes.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}/release
known=$root/docs/benchmarks.md
PATH=$PATH:$root/.tools/bin
work=$(mktemp -d)
parts=()
few=1000 many=3000

end() {
    for part in "${parts[@]}"; do kill "$part" 2>/dev/null || true; done
    rm -rf "$work"
}
trap end EXIT
fail() { echo "counters: $*" >&2; exit 1; }
for need in valgrind grpcurl curl "$target/pregon" "$target/pregon-bench"; do
    command -v "$need" >/dev/null || fail "$need is needed"
done

# Waits, two minutes at most, until a command says yes.
until_true() {
    for _ in $(seq 1200); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    fail "waited in vain: $*"
}
address() { sed -n "s/.*listening\(\":\"\| on \)\(127[0-9.:]*\).*/\2/p" "$1" | head -n 1; }
has_address() { [ -n "$(address "$1")" ]; }
call() { grpcurl -plaintext -max-time 60 -d "$2" "$server" "pregon.v1.$1" >/dev/null; }
received() { [ "$(curl -sf "http://$sink/stats" | sed -n 's/.*"received":\([0-9]*\).*/\1/p')" -ge "$1" ]; }

# Runs so many events by a path; instructions and calls of the allocator of the whole run are in `counted` then. Not for a
# subshell, which would keep from `end` what it started.
measure() {
    local path=$1 events=$2 directory=$work/$1-$2
    mkdir "$directory"
    "$target/pregon-bench" sink >"$directory/sink" 2>&1 & local sink_process=$!
    parts+=("$sink_process")
    valgrind --quiet --tool=callgrind --callgrind-out-file="$directory/counts" "$target/pregon" standalone \
        --data-dir "$directory/store" --listen 127.0.0.1:0 --allow-http --allow-egress 127.0.0.0/8 \
        >"$directory/server" 2>&1 & local process=$!
    parts+=("$process")
    until_true has_address "$directory/sink"
    until_true has_address "$directory/server"
    sink=$(address "$directory/sink") server=$(address "$directory/server")
    call TenantService/CreateTenant '{"tenant_id": "bench", "tenant": {}}'
    call EventTypeService/CreateEventType '{"event_type_id": "bench.event", "event_type": {}}'
    call SubscriptionService/CreateSubscription '{"parent": "tenants/bench", "subscription_id": "s",
        "subscription": {"url": "http://'"$sink"'/r/0", "event_types": ["bench.event"]}}'
    if [ "$path" = stored ]; then
        call SubscriptionService/PauseSubscription '{"name": "tenants/bench/subscriptions/s"}'
    fi
    local by=(--concurrency 1)
    if [ "$path" = unary ]; then by=(--mode unary --concurrency 64 --connections 4); fi
    "$target/pregon-bench" load --target "$server" --events "$events" "${by[@]}" >/dev/null
    case $path in
        fast | unary) until_true received "$events"; until_true says succeeded "$events" ;;
        stored) until_true says pending "$events" ;;
    esac
    kill -TERM "$process"
    wait "$process" || fail "the server ended badly: $(tail -n 3 "$directory/server")"
    kill "$sink_process" 2>/dev/null || true
    counted=$(awk '
        /^(summary|totals):/ { instructions = $2 }
        /^c?fn=/ { name = $0; sub(/^c?fn=/, "", name); id = name; sub(/ .*/, "", id)
                   if (name ~ / /) { text[id] = name } ; now = text[id]; callee = ($0 ~ /^cfn=/) ? now : "" }
        /^calls=/ { split($0, part, /[= ]/)
                    if (callee ~ /\) mi_(malloc|zalloc|calloc|realloc|malloc_aligned|zalloc_aligned|realloc_aligned)$/) {
                        allocations += part[2] } }
        END { printf "%d %d\n", instructions, allocations }' "$directory"/counts*)
}
report() { grpcurl -plaintext -max-time 60 -d '{"parent": "tenants/bench"}' "$server" \
    pregon.v1.DeliveryService/GetReconciliationReport | tr -d ' \n"'; }
says() { report | grep -q "[,{]$1:$2[,}]"; }

grown=0
for path in fast unary stored; do
    measure "$path" "$few"
    read -r instructions allocations <<<"$counted"
    measure "$path" "$many"
    read -r more_instructions more_allocations <<<"$counted"
    counts=($(((more_instructions - instructions) / (many - few))) $(((more_allocations - allocations) / (many - few))))
    if [ "${1-}" = --print ]; then
        echo "| $path | ${counts[0]} | ${counts[1]} |"
        continue
    fi
    read -ra before <<<"$(awk -F '|' -v path=" $path " '$2 == path { print $3, $4 }' "$known")"
    [ "${#before[@]}" = 2 ] || fail "$known has no counts of the path $path"
    for n in 0 1; do
        what=$([ "$n" = 0 ] && echo instructions || echo allocations)
        echo "$path: ${counts[n]} $what a delivery, ${before[n]} known"
        if [ $((counts[n] * 10)) -gt $((before[n] * 11)) ]; then grown=1; fi
    done
done
[ "$grown" = 0 ] || fail "a delivery takes more than a tenth more than is known; see above"
