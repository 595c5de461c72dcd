// Asks a library for node about a request.
//
// A line in is {"code", "request", "key"}, a line out {"accepted", "why"}. The code is the body of an
// asynchronous function of senders.toml. It may use lib(name) (imports an installed library), body
// (text), raw (Buffer), h (headers by lower-case name), url, key (the secret as text, or a public key)
// and headers (a Headers). It accepts by returning anything but false and undefined. This file is run
// from the folder that the libraries are in.
import { createInterface } from "node:readline";

// Libraries may print; the answers have the output to themselves.
const answer = (line) => process.stdout.write(JSON.stringify(line) + "\n");
console.log = console.info = console.debug = console.warn = console.error = () => {};

const AsyncFunction = (async () => {}).constructor;
const names = ["lib", "body", "raw", "h", "url", "key", "headers"];
const lib = async (name) => {
  const module = await import(name);
  return { ...module.default, ...module, default: module.default };
};
// A library that throws in a callback must not end the process.
process.on("uncaughtException", () => {});
process.on("unhandledRejection", () => {});

for await (const line of createInterface({ input: process.stdin })) {
  const { code, request, key } = JSON.parse(line);
  const raw = Buffer.from(request.body, "base64");
  const h = Object.fromEntries(request.headers.map(([name, value]) => [name.toLowerCase(), value]));
  try {
    const verifier = new AsyncFunction(...names, code);
    const got = await verifier(lib, raw.toString("utf8"), raw, h, request.url, key, new Headers(request.headers));
    answer({ accepted: got !== undefined && got !== false, why: `answered ${String(got).slice(0, 200)}` });
  } catch (error) {
    answer({ accepted: false, why: `${error?.name}: ${error?.message}`.slice(0, 200) });
  }
}
process.exit(0);
