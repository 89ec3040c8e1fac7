"""The OpenAI Python SDK, unmodified, against a gateway. Run by tests/it/sdk.rs: base URL, key, organisation id."""

import sys

import openai
from openai import OpenAI
from openai.types.chat import ChatCompletionChunk

base_url, key = sys.argv[1:3]
client = OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=20)
messages = [{"role": "user", "content": "Say hello twenty times"}]


def unary():
    answer = client.chat.completions.create(model="demo-fast", messages=messages)
    assert answer.choices[0].message.content == " a" * 20, answer
    assert answer.choices[0].finish_reason == "stop", answer
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 20), answer.usage
    named = client.chat.completions.create(model="named otherwise", messages=messages)
    assert named.model == "named otherwise", named
    raw = client.chat.completions.with_raw_response.create(model="demo-fast", messages=messages)
    assert raw.headers["x-odock-cost-nanos"] == "45000", raw.headers
    short = client.chat.completions.create(model="demo-fast", messages=messages, max_completion_tokens=3)
    assert short.choices[0].finish_reason == "length", short


def streaming():
    chunks = list(client.chat.completions.create(model="demo-fast", messages=messages, stream=True))
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.model_dump())
        assert chunk.usage is None and chunk.choices, chunk
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == " a" * 20, text
    asked = list(
        client.chat.completions.create(
            model="demo-fast", messages=messages, stream=True, stream_options={"include_usage": True}
        )
    )
    assert asked[-1].choices == [] and asked[-1].usage.total_tokens == 25, asked[-1]
    with client.chat.completions.stream(model="named otherwise", messages=messages, n=2) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert [choice.message.content for choice in final.choices] == [" a" * 20] * 2, final
    assert final.model == "named otherwise", final


def tools():
    function = {"name": "look_up", "description": "d", "parameters": {"type": "object", "properties": {}}}
    offered = [{"type": "function", "function": function}]
    answer = client.chat.completions.create(
        model="demo-fast", messages=messages, tools=offered, tool_choice="required"
    )
    call = answer.choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("look_up", "{}"), answer
    chosen = {"type": "function", "function": {"name": "look_up"}}
    with client.chat.completions.stream(
        model="demo-fast", messages=messages, tools=offered, tool_choice=chosen
    ) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.name == "look_up", final
    result = [
        *messages,
        answer.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "42"},
    ]
    assert client.chat.completions.create(model="demo-fast", messages=result, tools=offered).choices


def images():
    content = [
        {"type": "text", "text": "What is in this image?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    answer = client.chat.completions.create(
        model="demo-fast", max_completion_tokens=3, messages=[{"role": "user", "content": content}]
    )
    assert answer.usage.prompt_tokens == 22 // 4 + 85, answer.usage


def models():
    names = {model.id for model in client.models.list()}
    assert {"demo-fast", "demo-fee", "named otherwise"} <= names, names


def errors():
    for model, expected, code in [
        ("failing", openai.InternalServerError, "upstream_error"),
        ("no such model", openai.BadRequestError, "model_not_found"),
        ("limited", openai.RateLimitError, None),
    ]:
        try:
            client.chat.completions.create(model=model, messages=messages)
        except expected as error:
            assert code is None or error.code == code, error
        else:
            raise AssertionError(model)
    try:
        OpenAI(base_url=base_url, api_key="sk_wrong", max_retries=0).models.list()
    except openai.AuthenticationError as error:
        assert error.code == "unauthorized", error
    else:
        raise AssertionError("a wrong key was taken")
    try:
        list(client.chat.completions.create(model="cut", messages=messages, stream=True))
    except openai.APIError as error:
        assert error.code == "upstream_error", error
    else:
        raise AssertionError("a cut stream looked whole")


for part in (unary, streaming, tools, images, models, errors):
    part()
print(f"openai {openai.__version__}: all of it worked")
