// A receiver of the crypto on-ramp as an integrator writes it: parse, take the signature out, stringify, compare.
// Prints its port; GET /stats tells what came. The secret is the first argument.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const secret = process.argv[2];
const accepted = new Map();
const rejected = [];

function verify(text) {
  const payload = JSON.parse(text);
  const signature = payload.signature;
  delete payload.signature;
  const expected = createHmac("sha256", secret).update(JSON.stringify(payload)).digest("hex");
  if (typeof signature !== "string" || signature.length !== expected.length) return null;
  return timingSafeEqual(Buffer.from(signature), Buffer.from(expected)) ? payload : null;
}

const server = createServer((request, response) => {
  if (request.method === "GET") {
    response.end(JSON.stringify({ accepted: accepted.size, rejected }));
    return;
  }
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const text = Buffer.concat(chunks).toString("utf8");
    let payload = null;
    try {
      payload = verify(text);
    } catch (error) {
      rejected.push(`${error}: ${text}`);
    }
    if (payload === null) rejected.push(text);
    else accepted.set(payload.orderId, true);
    // Refused for good, so that one failure is not told many times.
    response.statusCode = payload === null ? 410 : 200;
    response.end();
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
