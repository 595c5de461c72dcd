#!/bin/sh
# What: @adyen/api-library 32.1.0 (npm): validateBankingHMAC(hmacKey, hmacSign, notification), so named in its
#   types and its comment, takes its second argument for the key and its first for the signature.
#   Called as it is written it says false of every webhook that is rightly signed, without an error.
#   validateHMACSignature, which replaces it, has the same three names and takes them as they say.
# Why one would guess otherwise: names, types and comment agree with each other, and with the new method;
#   that it is deprecated for the order of its arguments says nothing of which is meant.
# For senders: a receiver that refuses all of a platform's banking webhooks while it takes all payments has
#   not a wrong key; it calls this method.
# Needs: node 20 or later with npm, and a network. Fails if what it sees is not the above.
# Output seen:
#   validateBankingHMAC as written: false
#   validateBankingHMAC with key and signature exchanged: true
#   validateHMACSignature as written: true
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

npm init -y >/dev/null
npm install --silent --no-audit --no-fund @adyen/api-library@32.1.0
cat > look.cjs <<'END'
const { createHmac } = require('node:crypto');
const { hmacValidator } = require('@adyen/api-library');

const key = '0123456789abcdef'.repeat(4);
const payload = '{"type":"balancePlatform.transfer.created"}';
const signature = createHmac('sha256', Buffer.from(key, 'hex')).update(payload).digest('base64');
const validator = new hmacValidator();
const say = (what, answer) => console.log(`${what}: ${answer}`);
const banking = (...arguments_) => validator.validateBankingHMAC(...arguments_);
say('validateBankingHMAC as written', banking(key, signature, payload));
say('validateBankingHMAC with key and signature exchanged', banking(signature, key, payload));
say('validateHMACSignature as written', validator.validateHMACSignature(key, signature, payload));
END
node look.cjs > seen

cat seen
cat > wanted <<'END'
validateBankingHMAC as written: false
validateBankingHMAC with key and signature exchanged: true
validateHMACSignature as written: true
END
diff wanted seen && echo "as described"
