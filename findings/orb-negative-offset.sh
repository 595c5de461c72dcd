#!/bin/sh
# What: orb-billing 6.11.0 (npm) verifies a webhook whose X-Orb-Timestamp ends in `Z`, in `+00:00`, in
#   `+02:00` or in no zone at all, and refuses the same moment with a zone west of Greenwich, such as
#   `-03:00`: "Invalid timestamp header". It looks for a `Z` or a `+` and appends a `Z` where there is
#   neither, so `…-03:00` becomes `…-03:00Z`. All five are signed rightly over the text that is sent.
# Why one would guess otherwise: all of them but the one without a zone are times by RFC 3339, and
#   JavaScript's Date reads `-03:00` as well as `+02:00`.
# For senders: a time that is signed as text is best written in UTC with a `Z`; a server's local zone
#   works in Berlin and not in Buenos Aires.
# Needs: npm, node and a network. Fails if what it sees is not the above.
# Output seen:
#   Z true, none true, +00:00 true, +02:00 true, -03:00 Invalid timestamp header
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

npm install --silent --no-audit --no-fund --ignore-scripts orb-billing@6.11.0 > npm.log 2>&1
cat > seen.js <<'END'
const { createHmac } = require("crypto");
const { Orb } = require("orb-billing");
const secret = "a-secret-of-a-test";
const client = new Orb({ apiKey: "none", webhookSecret: secret });
const body = '{"id":"e1","type":"invoice.issued"}';
const now = Date.now();
const local = (hours) => new Date(now + hours * 3600000).toISOString().slice(0, 19);
const said = (text) => {
  const mac = createHmac("sha256", secret).update(`v1:${text}:${body}`).digest("hex");
  try {
    client.webhooks.verifySignature(body, {
      "X-Orb-Timestamp": text,
      "X-Orb-Signature": `v1=${mac}`,
    });
    return "true";
  } catch (error) {
    return error.message;
  }
};
const zones = [["Z", 0], ["none", 0], ["+00:00", 0], ["+02:00", 2], ["-03:00", -3]];
const text = ([zone, hours]) => local(hours) + (zone === "none" ? "" : zone);
console.log(zones.map((zone) => `${zone[0]} ${said(text(zone))}`).join(", "));
END
node seen.js > seen
cat seen
echo "Z true, none true, +00:00 true, +02:00 true, -03:00 Invalid timestamp header" > wanted
diff seen wanted
