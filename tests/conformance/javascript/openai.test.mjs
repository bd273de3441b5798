// OpenAI's own JavaScript SDK, with no more than a base URL and a key.
import assert from "node:assert/strict";
import test from "node:test";
import OpenAI, { BadRequestError, NotFoundError, toFile } from "openai";

const client = new OpenAI({ baseURL: process.env.GATEWAY_URL + "/v1", apiKey: "any", maxRetries: 0 });
const model = "gpt-6-astra";
const messages = [{ role: "user", content: "Grüße 🏔 from node" }];
const weather = {
  type: "function",
  function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } },
};

test("a chat", async () => {
  const { data, response } = await client.chat.completions.create({ model, messages }).withResponse();
  assert.equal(data.choices[0].message.content, "echo: Grüße 🏔 from node");
  assert.equal(data.choices[0].finish_reason, "stop");
  assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + data.usage.completion_tokens);
  assert.ok(response.headers.get("x-request-id"));
});

test("a streamed chat, with usage at its end", async () => {
  const stream = await client.chat.completions.create({
    model, messages, stream: true, stream_options: { include_usage: true },
  });
  let text = "", usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, "echo: Grüße 🏔 from node");
  assert.ok(usage.completion_tokens > 0);
});

test("the SDK's own gathering of a stream with tool calls", async () => {
  const stream = client.chat.completions.stream({ model, messages, tools: [weather] });
  const [call] = (await stream.finalChatCompletion()).choices[0].message.tool_calls;
  assert.equal(call.function.name, "weather");
  assert.equal(JSON.parse(call.function.arguments).city, "Zürich 🏔");
});

test("a stream that is left", async () => {
  const stream = await client.chat.completions.create({ model, messages, stream: true });
  for await (const chunk of stream) {
    assert.ok(chunk.id);
    break;
  }
});

test("embeddings", async () => {
  const told = await client.embeddings.create({ model: "text-embedding-3-small", input: ["a", "bb"] });
  assert.deepEqual(told.data.map((each) => each.embedding.length), [3, 3]);
});

test("a response, streamed and continued", async () => {
  const first = await client.responses.create({ model, input: "hello" });
  assert.equal(first.output_text, "echo: hello");
  const kinds = [];
  const stream = client.responses.stream({ model, input: "go on", previous_response_id: first.id });
  for await (const event of stream) kinds.push(event.type);
  assert.equal(kinds[0], "response.created");
  assert.equal(kinds.at(-1), "response.completed");
  assert.equal((await stream.finalResponse()).output_text, "echo: go on");
  assert.equal((await client.responses.retrieve(first.id)).id, first.id);
});

test("models", async () => {
  const names = [];
  for await (const each of client.models.list()) names.push(each.id);
  assert.ok(names.includes(model));
});

test("a file in a vector store is found", async () => {
  const sent = await toFile(Buffer.from("The office parrot eats walnuts at noon."), "parrot.md");
  const file = await client.files.create({ file: sent, purpose: "assistants" });
  const store = await client.vectorStores.create({ name: "office" });
  const added = await client.vectorStores.files.createAndPoll(store.id, { file_id: file.id }, { pollIntervalMs: 50 });
  assert.equal(added.status, "completed");
  const found = await client.vectorStores.search(store.id, { query: "What does the parrot eat?" });
  assert.match(found.data[0].content[0].text, /walnuts/);
});

test("errors are the SDK's own", async () => {
  await assert.rejects(client.chat.completions.create({ model: "nobody-knows-it", messages }), NotFoundError);
  await assert.rejects(client.chat.completions.create({ model, messages: "no list" }), (error) => {
    assert.ok(error instanceof BadRequestError);
    assert.equal(error.param, "messages");
    return true;
  });
});
