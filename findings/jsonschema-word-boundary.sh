#!/bin/sh
# What: jsonschema 0.60.2 (crates.io) reads two halves of one idea by two alphabets. In a JSON Schema
#   `pattern`, `\w`, `\W` and `\d` are those of ECMA-262, of ASCII letters and digits, but `\b` is a
#   boundary between Unicode letters. So on "naïve" it says that `ï` is no word character
#   (`^na\W` matches) and, of the same place, that no word ends there (`^na\b` does not).
# Why one would guess otherwise: ECMA-262, which JSON Schema names for patterns, defines `\b` by `\w`;
#   the library rewrites `\w` for that very reason; ajv 8.17.1 (npm) matches both.
# Beside it: jsonschema 4.25.1 (PyPI) reads both as of Unicode letters and matches neither.
# For senders: an event that passes a schema in JavaScript is refused by the one or the other
#   validator, and only for data beyond ASCII.
# Needs: cargo, npm, python3 with venv, and a network. Fails if what it sees is not the above.
# Output seen:
#   crates.io jsonschema 0.60.2: ^na\W true, ^na\b false
#   npm ajv 8.17.1: ^na\W true, ^na\b true
#   PyPI jsonschema 4.25.1: ^na\W false, ^na\b false
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

mkdir -p rust/src
cat > rust/Cargo.toml <<'END'
[package]
name = "seen"
version = "0.0.0"
edition = "2021"
[dependencies]
jsonschema = { version = "=0.60.2", default-features = false }
serde_json = "1"
END
cat > rust/src/main.rs <<'END'
use serde_json::json;
fn main() {
    let ok = |pattern: &str| {
        let schema = json!({"type": "string", "pattern": pattern});
        jsonschema::draft202012::new(&schema).expect("a schema").is_valid(&json!("naïve"))
    };
    println!("crates.io jsonschema 0.60.2: ^na\\W {}, ^na\\b {}", ok(r"^na\W"), ok(r"^na\b"));
}
END
(cd rust && cargo run --quiet) > seen

npm install --silent --no-audit --no-fund ajv@8.17.1 > npm.log 2>&1
cat > seen.js <<'END'
const Ajv = require("ajv/dist/2020");
const ok = (pattern) => new Ajv().validate({ type: "string", pattern }, "naïve");
console.log(`npm ajv 8.17.1: ^na\\W ${ok("^na\\W")}, ^na\\b ${ok("^na\\b")}`);
END
node seen.js >> seen

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check jsonschema==4.25.1
venv/bin/python - >> seen <<'END'
from jsonschema import Draft202012Validator
ok = lambda pattern: str(Draft202012Validator({"pattern": pattern}).is_valid("na\u00efve")).lower()
print(f"PyPI jsonschema 4.25.1: ^na\\W {ok(chr(94) + 'na' + chr(92) + 'W')}, "
      f"^na\\b {ok(chr(94) + 'na' + chr(92) + 'b')}")
END

cat seen
cat > wanted <<'END'
crates.io jsonschema 0.60.2: ^na\W true, ^na\b false
npm ajv 8.17.1: ^na\W true, ^na\b true
PyPI jsonschema 4.25.1: ^na\W false, ^na\b false
END
diff wanted seen && echo "as described"
