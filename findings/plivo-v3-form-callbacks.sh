#!/bin/sh
# What: plivo 4.79.0 (npm) and 4.63.0 (PyPI) verify version 3 signatures of a form POST over
#   the URL, a `?` even where the URL has no query, and the parameters sorted and run together:
#   `https://a.example/hook?Bbb1`. Where the URL has a query, that is sorted by name and ends with a
#   full stop: `https://a.example/hook?x=2&y=1.Bbb1`. Over the URL as it was sent, followed by
#   the same parameters, neither takes a signature.
# Why one would guess otherwise: senders of the kind, Twilio and Plivo's own version 2 among them,
#   sign the URL as it was sent; a `?` in front of no query, and a full stop behind one, are of no URL.
# For senders: the text to sign is not made of the request's URL by appending; a receiver's URL with
#   parameters out of order is signed in another order than it is called.
# Needs: npm, python3 with venv, and a network. Fails if what it sees is not the above.
# Output seen:
#   npm plivo 4.79.0: url+params false, url?+params true, url?y&x+params false, url?x&y.params true
#   PyPI plivo 4.63.0: url+params false, url?+params true, url?y&x+params false, url?x&y.params true
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

npm install --silent --no-audit --no-fund --ignore-scripts plivo@4.79.0 > npm.log 2>&1
cat > seen.js <<'END'
const { createHmac } = require("crypto");
const { validateV3Signature } = require("plivo/dist/utils/v3Security");
const [token, nonce, form] = ["token", "12345", { B: "bb1" }];
const takes = (url, text) => {
  const made = createHmac("sha256", token).update(`${text}.${nonce}`).digest("base64");
  return validateV3Signature("POST", url, nonce, token, made, form);
};
const bare = "https://a.example/hook";
const full = `${bare}?y=1&x=2`;
console.log(`npm plivo 4.79.0: url+params ${takes(bare, bare + "Bbb1")}, ` +
  `url?+params ${takes(bare, bare + "?Bbb1")}, ` +
  `url?y&x+params ${takes(full, full + "Bbb1")}, ` +
  `url?x&y.params ${takes(full, bare + "?x=2&y=1.Bbb1")}`);
END
node seen.js > seen

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check plivo==4.63.0
venv/bin/python - >> seen <<'END'
import base64, hashlib, hmac
from plivo.utils import validate_v3_signature
token, nonce, form = "token", "12345", {"B": "bb1"}
def takes(url, text):
    mac = hmac.new(token.encode(), f"{text}.{nonce}".encode(), hashlib.sha256).digest()
    made = base64.b64encode(mac).decode()
    return str(bool(validate_v3_signature("POST", url, nonce, token, made, form))).lower()
bare = "https://a.example/hook"
full = bare + "?y=1&x=2"
print(f"PyPI plivo 4.63.0: url+params {takes(bare, bare + 'Bbb1')}, "
      f"url?+params {takes(bare, bare + '?Bbb1')}, "
      f"url?y&x+params {takes(full, full + 'Bbb1')}, "
      f"url?x&y.params {takes(full, bare + '?x=2&y=1.Bbb1')}")
END

cat seen
cat > wanted <<'END'
npm plivo 4.79.0: url+params false, url?+params true, url?y&x+params false, url?x&y.params true
PyPI plivo 4.63.0: url+params false, url?+params true, url?y&x+params false, url?x&y.params true
END
diff wanted seen && echo "as described"
