#!/bin/sh
# Lints proto/ with buf (categories STANDARD and COMMENTS, proto/buf.yaml), and checks its formatting.
# buf comes from npm into .tools/buf at the first run; afterwards no network is needed. Silent when all is well.
set -eu

version=1.75.0
root=$(cd "$(dirname "$0")/.." && pwd)
prefix=$root/.tools/buf-$version
buf=$prefix/node_modules/.bin/buf

if ! [ -x "$buf" ]; then
    command -v npm >/dev/null || { echo "buf-lint: npm is needed to install buf $version" >&2; exit 1; }
    mkdir -p "$prefix"
    npm install --silent --no-audit --no-fund --prefix "$prefix" "@bufbuild/buf@$version" >&2 ||
        { echo "buf-lint: could not install @bufbuild/buf@$version from npm" >&2; exit 1; }
fi

cd "$root/proto"
"$buf" lint || { echo "buf-lint: the lines above break a rule of proto/buf.yaml" >&2; exit 1; }
"$buf" format --diff --exit-code --exclude-path google ||
    { echo "buf-lint: not formatted; run: (cd proto && $buf format -w --exclude-path google)" >&2; exit 1; }
