#!/usr/bin/env bash
# Runs fuzz targets under libFuzzer: `scripts/fuzz.sh [TARGET [SECONDS]]`, each for five minutes where
# nothing is said. `scripts/fuzz.sh --keep TARGET` takes what was found into fuzz/corpus, as few inputs
# as reach as much. docs/checks.md says more. Needs a nightly compiler and a C++ compiler.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
found=$root/.tools/fuzz
host=$(rustc +nightly -vV | sed -n 's/^host: //p')

keep=
if [ "${1-}" = --keep ]; then
    keep=yes
    shift
    [ -n "${1-}" ] || { echo "fuzz.sh: --keep of which target?" >&2; exit 1; }
fi
targets=("${1-}")
if [ -z "${1-}" ]; then
    mapfile -t targets < <(cd fuzz/libfuzzer/fuzz_targets && ls | sed 's/\.rs$//')
fi

# The versions that are released are those that are tried. libFuzzer needs to be told of branches and
# comparisons; it has nothing to tell of macros that build scripts run, hence --target.
cp Cargo.lock fuzz/libfuzzer/Cargo.lock
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares"
(cd fuzz/libfuzzer && cargo +nightly build --quiet --release --target "$host")
binaries=${CARGO_TARGET_DIR:-fuzz/libfuzzer/target}/$host/release

# Longer inputs reach little that is new, and slowly.
longest() {
    case $1 in
        contract) echo 6000 ;;
        expression) echo 600 ;;
        retry_after) echo 80 ;;
        url) echo 512 ;;
        *) echo 2048 ;;
    esac
}

for target in "${targets[@]}"; do
    mkdir -p "$found/$target" "fuzz/corpus/$target"
    if [ -n "$keep" ]; then
        few=$(mktemp -d)
        "$binaries/$target" -merge=1 "$few" "fuzz/corpus/$target" "$found/$target"
        rm -rf "fuzz/corpus/$target"
        mv "$few" "fuzz/corpus/$target"
        chmod 755 "fuzz/corpus/$target"
        continue
    fi
    echo "== $target"
    "$binaries/$target" -max_total_time="${2-300}" -timeout=20 -rss_limit_mb=4096 -max_len="$(longest "$target")" \
        -print_final_stats=1 -artifact_prefix="$found/broke-$target-" "$found/$target" "fuzz/corpus/$target"
done
