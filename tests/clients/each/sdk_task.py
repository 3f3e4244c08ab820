
# What follows the snippet of the README: see sdks.py.
import json
import subprocess
import sys

MODEL, PROMPT = os.environ["MODEL"], os.environ["PROMPT"]
SCHEMA = {"type": "object", "required": ["command"], "properties": {"command": {"type": "string"}}}
ASKED = {"role": "user", "content": PROMPT}


def tell(value):
    print(json.dumps(value, ensure_ascii=False), flush=True)


def run(arguments):
    command = ["sh", "-c", arguments["command"]]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def talk_to_messages():
    messages = [ASKED]
    while True:
        tools = [{"name": "run", "input_schema": SCHEMA}]
        with anthropic.messages.stream(model=MODEL, max_tokens=200, tools=tools, messages=messages) as stream:
            for event in stream:
                tell(event.model_dump(mode="json", warnings=False))
            answer = stream.get_final_message()
        calls = [block for block in answer.content if block.type == "tool_use"]
        if not calls:
            return tell({"said": answer.content[0].text})
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": run(call.input)} for call in calls]
        messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]


def talk_to_chat(client):
    messages = [ASKED]
    tools = [{"type": "function", "function": {"name": "run", "parameters": SCHEMA}}]
    while True:
        said, calls = "", []
        for chunk in client.chat.completions.create(model=MODEL, tools=tools, messages=messages, stream=True):
            tell(chunk.model_dump(mode="json", warnings=False))
            for choice in chunk.choices:
                said += choice.delta.content or ""
                for piece in choice.delta.tool_calls or []:
                    if piece.id:
                        calls.append({"id": piece.id, "type": "function", "function": {"name": "", "arguments": ""}})
                    calls[-1]["function"]["name"] += piece.function.name or ""
                    calls[-1]["function"]["arguments"] += piece.function.arguments or ""
        if not calls:
            return tell({"said": said})
        messages.append({"role": "assistant", "content": said, "tool_calls": calls})
        for call in calls:
            result = run(json.loads(call["function"]["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})


def talk_to_responses():
    items = [ASKED]
    tools = [{"type": "function", "name": "run", "parameters": SCHEMA, "strict": False}]
    while True:
        with openai.responses.create(model=MODEL, tools=tools, input=items, store=False, stream=True) as stream:
            for event in stream:
                tell(event.model_dump(mode="json", warnings=False))
        calls = [item for item in event.response.output if item.type == "function_call"]
        if not calls:
            return tell({"said": event.response.output_text})
        items += event.response.output
        for call in calls:
            output = run(json.loads(call.arguments))
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": output})


if sys.argv[1] == "anthropic":
    talk_to_messages()
elif sys.argv[1] == "openai":
    talk_to_responses()
    talk_to_chat(openai)
else:
    talk_to_chat(fireworks)
