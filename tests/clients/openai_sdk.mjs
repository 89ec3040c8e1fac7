// The OpenAI Node SDK, unmodified, against a gateway. Run by tests/it/sdk.rs: base URL, key, folder of the modules.

import { createRequire } from "node:module";
import assert from "node:assert/strict";

const [baseURL, apiKey, folder] = process.argv.slice(2);
const { default: OpenAI, AuthenticationError } = createRequire(`${folder}/index.js`)("openai");
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20_000 });
const messages = [{ role: "user", content: "Say hello twenty times" }];

const answer = await client.chat.completions.create({ model: "demo-fast", messages });
assert.equal(answer.choices[0].message.content, " a".repeat(20));
assert.equal(answer.usage.total_tokens, 25);

let text = "";
for await (const chunk of await client.chat.completions.create({ model: "demo-fast", messages, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
assert.equal(text, " a".repeat(20));

await assert.rejects(
  new OpenAI({ baseURL, apiKey: "sk_wrong", maxRetries: 0 }).models.list(),
  (error) => error instanceof AuthenticationError && error.code === "unauthorized",
);
console.log("openai for node: all of it worked");
