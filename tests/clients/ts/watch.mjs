// Subscribes to a resource as a public TypeScript client does, and prints what it is told, one JSON object a line.
//
//   node watch.mjs FOLDER v1|v2 legacy|modern URI ABSENT stdio COMMAND [ARGUMENT...]
//   node watch.mjs FOLDER v1|v2 legacy|modern URI ABSENT http URL
//
// FOLDER holds node_modules. ABSENT is a resource that may not be read: what a client makes of the refusal is
// printed too. It ends when its standard input does.

import { createRequire } from "node:module";

const [folder, generation, era, uri, absent, kind, target, ...rest] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const identity = { name: `typescript-${generation}`, version: "1" };

const say = (event, facts = {}) => process.stdout.write(`${JSON.stringify({ event, ...facts })}\n`);

function clientOf() {
  if (generation === "v2") {
    const { Client } = require("@modelcontextprotocol/client");
    return new Client(identity, { versionNegotiation: { mode: era === "modern" ? "auto" : "legacy" } });
  }
  return new (require("@modelcontextprotocol/sdk/client/index.js").Client)(identity);
}

function transportOf() {
  const first = generation === "v2";
  if (kind === "stdio") {
    const home = first ? "@modelcontextprotocol/client/stdio" : "@modelcontextprotocol/sdk/client/stdio.js";
    const { StdioClientTransport } = require(home);
    return new StdioClientTransport({ command: target, args: rest, env: process.env, stderr: "ignore" });
  }
  const home = first ? "@modelcontextprotocol/client" : "@modelcontextprotocol/sdk/client/streamableHttp.js";
  const { StreamableHTTPClientTransport } = require(home);
  return new StreamableHTTPClientTransport(new URL(target));
}

async function read(client) {
  const { contents } = await client.readResource({ uri });
  return JSON.parse(contents[0].text);
}

async function subscribe(client, wanted) {
  if (era === "modern") return client.listen({ resourceSubscriptions: [wanted] });
  return client.subscribeResource({ uri: wanted });
}

const client = clientOf();
const told = async ({ params }) => say("told", { uri: params.uri, read: await read(client) });
if (generation === "v2") {
  client.setNotificationHandler("notifications/resources/updated", told);
} else {
  const { ResourceUpdatedNotificationSchema } = require("@modelcontextprotocol/sdk/types.js");
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, told);
}
await client.connect(transportOf());
say("connected", { capabilities: client.getServerCapabilities(), read: await read(client) });
try {
  await subscribe(client, absent);
  say("subscribed", { uri: absent });
} catch (error) {
  say("refused", { uri: absent, code: error.code, message: error.message });
}
await subscribe(client, uri);
say("subscribed", { uri });
process.stdin.resume();
process.stdin.on("end", async () => {
  await client.close();
  process.exit(0);
});
