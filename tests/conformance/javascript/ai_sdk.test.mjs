// Vercel's AI SDK: its provider for servers that speak OpenAI's format, and the one for OpenAI itself.
import assert from "node:assert/strict";
import test from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const baseURL = process.env.GATEWAY_URL + "/v1";
const compatible = createOpenAICompatible({ name: "gateway", baseURL, apiKey: "any", includeUsage: true });
const openai = createOpenAI({ baseURL, apiKey: "any" });
const models = {
  "openai-compatible": compatible("gpt-6-astra"),
  "openai, chat": openai.chat("gpt-6-astra"),
  "openai, responses": openai.responses("gpt-6-astra"),
};

for (const [name, model] of Object.entries(models)) {
  test(`${name}: a text`, async () => {
    const told = await generateText({ model, prompt: "Grüße 🏔" });
    assert.equal(told.text, "echo: Grüße 🏔");
    assert.equal(told.finishReason, "stop");
    assert.ok(told.usage.outputTokens > 0);
  });

  test(`${name}: a streamed text`, async () => {
    const told = streamText({ model, prompt: "Grüße 🏔" });
    let text = "";
    for await (const part of told.textStream) text += part;
    assert.equal(text, "echo: Grüße 🏔");
    assert.equal(await told.finishReason, "stop");
    assert.ok((await told.usage).outputTokens > 0);
  });
}

for (const name of ["openai-compatible", "openai, chat"]) {
  test(`${name}: a tool is called with what the model says`, async () => {
    const cities = [];
    const weather = tool({
      description: "The weather of a city",
      inputSchema: z.object({ city: z.string(), n: z.number() }),
      execute: async ({ city }) => {
        cities.push(city);
        return "sunny";
      },
    });
    const told = await generateText({ model: models[name], prompt: "weather?", tools: { weather }, stopWhen: stepCountIs(1) });
    assert.deepEqual(cities, ["Zürich 🏔"]);
    assert.equal(told.finishReason, "tool-calls");
  });
}

test("embeddings", async () => {
  const told = await embedMany({ model: compatible.textEmbeddingModel("text-embedding-3-small"), values: ["a", "bb"] });
  assert.deepEqual(told.embeddings.map((each) => each.length), [3, 3]);
});

test("an error has the gateway's status and words", async () => {
  await assert.rejects(generateText({ model: compatible("nobody-knows-it"), prompt: "x", maxRetries: 0 }), (error) => {
    assert.equal(error.statusCode, 404);
    assert.match(error.message, /nobody-knows-it/);
    return true;
  });
});
