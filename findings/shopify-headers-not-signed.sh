#!/bin/sh
# What: @shopify/shopify-api 13.1.0 (npm) calls a webhook invalid whose signature over the body is right,
#   where one of four headers is missing that the signature does not cover: X-Shopify-Topic,
#   X-Shopify-Shop-Domain, X-Shopify-API-Version, X-Shopify-Webhook-Id. It says `missing_headers`,
#   and does not look at the signature then.
# Why one would guess otherwise: the scheme is an HMAC of the body in one header, and what other
#   libraries for it look at is that header and the body.
# For senders: whoever imitates the contract sends all five, the version of an API and an id of the
#   message among them; with the signature alone every delivery is refused.
# Needs: node 20 or later with npm, and a network. Fails if what it sees is not the above.
# Output seen:
#   all: valid
#   without X-Shopify-Topic: missing_headers
#   without X-Shopify-Shop-Domain: missing_headers
#   without X-Shopify-API-Version: missing_headers
#   without X-Shopify-Webhook-Id: missing_headers
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

npm init -y >/dev/null
npm install --silent --no-audit --no-fund @shopify/shopify-api@13.1.0
cat > look.mjs <<'END'
import '@shopify/shopify-api/adapters/node';
import { createHmac } from 'node:crypto';
import { ApiVersion, shopifyApi } from '@shopify/shopify-api';

const secret = 'an app secret';
const library = shopifyApi({
  apiKey: 'app', apiSecretKey: secret, hostName: 'app.example.com', isEmbeddedApp: false,
  apiVersion: Object.values(ApiVersion)[0], logger: { level: 0 },
});
const rawBody = '{"id":1}';
const all = {
  'X-Shopify-Topic': 'orders/paid',
  'X-Shopify-Shop-Domain': 'shop.example.com',
  'X-Shopify-API-Version': '2025-07',
  'X-Shopify-Webhook-Id': 'w1',
};
const hmac = createHmac('sha256', secret).update(rawBody).digest('base64');
async function look(name, some) {
  const headers = { 'X-Shopify-Hmac-Sha256': hmac, ...some };
  const rawRequest = { method: 'POST', url: '/', headers };
  const { valid, reason } = await library.webhooks.validate({ rawBody, rawRequest });
  console.log(`${name}: ${valid ? 'valid' : reason}`);
}
await look('all', all);
for (const header of Object.keys(all)) {
  const { [header]: _, ...others } = all;
  await look(`without ${header}`, others);
}
END
node look.mjs > seen

cat seen
cat > wanted <<'END'
all: valid
without X-Shopify-Topic: missing_headers
without X-Shopify-Shop-Domain: missing_headers
without X-Shopify-API-Version: missing_headers
without X-Shopify-Webhook-Id: missing_headers
END
diff wanted seen && echo "as described"
