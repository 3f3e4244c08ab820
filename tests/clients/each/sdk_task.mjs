
// What follows the snippet of the README: see sdks.py.
import { execFileSync } from "node:child_process";

const { MODEL: model, PROMPT } = process.env;
const schema = { type: "object", required: ["command"], properties: { command: { type: "string" } } };
const asked = { role: "user", content: PROMPT };

const tell = (value) => console.log(JSON.stringify(value));
const run = ({ command }) => execFileSync("sh", ["-c", command], { encoding: "utf8" });

async function talkToMessages() {
  const messages = [asked];
  for (;;) {
    const tools = [{ name: "run", input_schema: schema }];
    const stream = anthropic.messages.stream({ model, max_tokens: 200, tools, messages });
    for await (const event of stream) tell(event);
    const answer = await stream.finalMessage();
    const calls = answer.content.filter((block) => block.type === "tool_use");
    if (!calls.length) return tell({ said: answer.content[0].text });
    const result = (call) => ({ type: "tool_result", tool_use_id: call.id, content: run(call.input) });
    messages.push({ role: "assistant", content: answer.content }, { role: "user", content: calls.map(result) });
  }
}

async function talkToChat() {
  const messages = [asked];
  const tools = [{ type: "function", function: { name: "run", parameters: schema } }];
  for (;;) {
    const stream = openai.chat.completions.stream({ model, tools, messages });
    for await (const chunk of stream) tell(chunk);
    const answer = (await stream.finalChatCompletion()).choices[0].message;
    if (!answer.tool_calls?.length) return tell({ said: answer.content });
    messages.push(answer);
    for (const call of answer.tool_calls) {
      const content = run(JSON.parse(call.function.arguments));
      messages.push({ role: "tool", tool_call_id: call.id, content });
    }
  }
}

async function talkToResponses() {
  const input = [asked];
  const tools = [{ type: "function", name: "run", parameters: schema, strict: false }];
  for (;;) {
    const stream = await openai.responses.create({ model, tools, input, store: false, stream: true });
    let last;
    for await (const event of stream) tell((last = event));
    const calls = last.response.output.filter((item) => item.type === "function_call");
    if (!calls.length) return tell({ said: last.response.output[0].content[0].text });
    input.push(...last.response.output);
    for (const call of calls) {
      input.push({ type: "function_call_output", call_id: call.call_id, output: run(JSON.parse(call.arguments)) });
    }
  }
}

if (process.argv[2] === "anthropic") {
  await talkToMessages();
} else {
  await talkToResponses();
  await talkToChat();
}
