// Verifies requests with GitHub's own library, as its receivers do. Its directory is the first argument.
//
// Reads one JSON object a line: {"secret": "…", "header": "sha256=…", "body": base64, "others": ["…"]}, others being
// secrets that a receiver accepts besides during a rotation. Writes one a line in the same order: {"ok": true or false}.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const library = pathToFileURL(`${process.argv[2]}/dist-node/index.js`);
const { verify, verifyWithFallback } = await import(library);

for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const { secret, header, body, others } = JSON.parse(line);
  const text = Buffer.from(body, "base64").toString("utf8");
  const ok = others.length
    ? await verifyWithFallback(secret, text, header, others)
    : await verify(secret, text, header);
  console.log(JSON.stringify({ ok }));
}
