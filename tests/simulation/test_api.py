"""The API without a transport, in virtual time: what a client gets is what vLLM would send."""

from __future__ import annotations

import asyncio
import json
import time

import jsonschema
import pytest
from simulation.api_clients import MODEL, TOOL, ask, chat, complete, make_api, stream

from concur_agents.simulation.tokens import Tokenizer, unpacked
from concur_agents.simulation.virtual_time import run

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "Hello"}]
NAMED = {"type": "function", "function": {"name": "get_weather"}}


def timeless(test):
    """Runs an asynchronous test in virtual time."""

    def wrapper(**fixtures):
        run(test(**fixtures))

    wrapper.__name__, wrapper.__doc__ = test.__name__, test.__doc__
    wrapper.__signature__ = __import__("inspect").signature(test)
    wrapper.pytestmark = getattr(test, "pytestmark", [])
    return wrapper


def in_tokens(text):
    return unpacked(Tokenizer().encode(text))


# --- answers in one piece ---------------------------------------------------------------------------------------------


@timeless
async def test_a_chat_answer_has_every_field_of_vllms():
    answer = await chat(make_api(), max_tokens=12, ignore_eos=True)
    assert answer.pop("id").startswith("chatcmpl-")
    assert answer == {
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": answer["choices"][0]["message"]["content"],
                    "refusal": None,
                    "annotations": None,
                    "audio": None,
                    "function_call": None,
                    "reasoning": None,
                },
                "logprobs": None,
                "finish_reason": "length",
                "stop_reason": None,
                "token_ids": None,
                "routed_experts": None,
            }
        ],
        "service_tier": None,
        "system_fingerprint": None,
        "usage": {
            "prompt_tokens": 10,
            "total_tokens": 22,
            "completion_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 0, "created_cache_tokens": None, "multimodal_tokens": None},
            "completion_tokens_details": None,
        },
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "prompt_text": None,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }
    assert len(in_tokens(answer["choices"][0]["message"]["content"])) == 12


@timeless
async def test_a_completion_has_sixteen_tokens_unless_it_is_told_otherwise():
    api = make_api()
    answer = await complete(api, ignore_eos=True)
    assert answer["id"].startswith("cmpl-")
    assert answer["object"] == "text_completion"
    assert answer["usage"]["completion_tokens"] == 16
    assert answer["choices"][0]["text"].startswith(" Filler text")
    assert answer["choices"][0]["finish_reason"] == "length"
    assert (await complete(api, max_tokens=7, min_tokens=7))["usage"]["completion_tokens"] == 7


@timeless
async def test_lengths_that_nothing_fixes_end_by_themselves():
    api = make_api()
    answers = await asyncio.gather(*(chat(api, f"Question {at}") for at in range(60)))
    lengths = sorted(answer["usage"]["completion_tokens"] for answer in answers)
    assert 70 < lengths[30] < 200
    assert {answer["choices"][0]["finish_reason"] for answer in answers} == {"stop"}
    cut = await asyncio.gather(*(chat(api, f"Question {at}", max_completion_tokens=50) for at in range(60)))
    assert {answer["choices"][0]["finish_reason"] for answer in cut} == {"stop", "length"}
    assert max(answer["usage"]["completion_tokens"] for answer in cut) == 50


@timeless
async def test_several_prompts_get_a_choice_each_and_one_usage():
    api = make_api()
    answer = await complete(api, ["one", "two words", "three"], max_tokens=5, ignore_eos=True, return_token_ids=True)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert [choice["prompt_token_ids"] for choice in answer["choices"]] == [
        in_tokens("one"),
        in_tokens("two words"),
        in_tokens("three"),
    ]
    assert answer["usage"]["completion_tokens"] == 15
    assert answer["usage"]["prompt_tokens"] == 4
    assert api.engine.counters().generation_tokens == 15


@timeless
async def test_the_ids_that_are_told_are_those_of_the_text():
    api = make_api()
    answer = await complete(api, [5, 6, 7] * 10, max_tokens=20, return_token_ids=True)
    (choice,) = answer["choices"]
    assert choice["token_ids"] == in_tokens(choice["text"])
    assert choice["prompt_token_ids"] == [5, 6, 7] * 10
    answer = await chat(api, return_token_ids=True)
    assert answer["choices"][0]["token_ids"] == in_tokens(answer["choices"][0]["message"]["content"])
    assert len(answer["prompt_token_ids"]) == answer["usage"]["prompt_tokens"]


@timeless
async def test_a_request_may_name_its_answer():
    assert (await chat(make_api(), request_id="mine"))["id"] == "chatcmpl-mine"


@timeless
async def test_answers_have_ids_of_their_own():
    api = make_api()
    answers = [await chat(api, max_tokens=1) for _ in range(5)] + [
        await chat(make_api(clock=lambda: 2e9), max_tokens=1)
    ]
    assert len({answer["id"] for answer in answers}) == 6


# --- the cache --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "ids"])
@timeless
async def test_a_completion_that_is_fed_back_is_found_in_the_cache(kind):
    api = make_api()
    prompt = "A prompt of some words. " * 20
    if kind == "ids":
        prompt = in_tokens(prompt)
    first = await complete(api, prompt, max_tokens=100, ignore_eos=True, return_token_ids=True)
    (choice,) = first["choices"]
    again = prompt + choice["text"] + " And more" if kind == "text" else prompt + choice["token_ids"] + [1, 2, 3]
    second = await complete(api, again)
    known = first["usage"]["total_tokens"] - 1  # the last token's KV is not computed
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == known // 16 * 16


@timeless
async def test_a_conversation_that_goes_on_is_found_in_the_cache():
    api = make_api()
    messages = [{"role": "system", "content": "Be brief. " * 30}, *HELLO]
    for turn in range(4):
        answer = await chat(api, messages, max_tokens=50 + turn, ignore_eos=True)
        message = answer["choices"][0]["message"]
        messages += [{"role": "assistant", "content": message["content"]}, {"role": "user", "content": "Go on."}]
        known = answer["usage"]["total_tokens"] - 1
        next_usage = (await chat(api, messages, max_tokens=1))["usage"]
        assert next_usage["prompt_tokens_details"]["cached_tokens"] == known // 16 * 16


@timeless
async def test_a_tool_call_that_is_fed_back_is_found_in_the_cache():
    api = make_api()
    messages = [{"role": "system", "content": "Be brief. " * 30}, *HELLO]
    answer = await chat(api, messages, tools=[TOOL], max_tokens=90, ignore_eos=True)
    message = answer["choices"][0]["message"]
    (call,) = message["tool_calls"]
    # As LangChain does: the arguments are read and written again.
    call["function"]["arguments"] = json.dumps(json.loads(call["function"]["arguments"]), ensure_ascii=False)
    messages += [
        {"role": "assistant", "content": message["content"], "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "Rain."},
    ]
    second = await chat(api, messages, tools=[TOOL])
    known = answer["usage"]["total_tokens"] - 1
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == known // 16 * 16


@timeless
async def test_a_salt_splits_the_cache():
    api = make_api()
    text = "word " * 200

    async def cached(**more):
        return (await chat(api, text, max_tokens=1, **more))["usage"]["prompt_tokens_details"]["cached_tokens"]

    assert await cached() == 0
    assert await cached() > 100
    assert await cached(cache_salt="a") == 0
    assert await cached(cache_salt="b") == 0
    assert await cached(cache_salt="a") > 100


# --- tools and formats ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "reason"), [("required", "tool_calls"), (NAMED, "stop"), ("auto", "tool_calls"), (None, "tool_calls")]
)
@timeless
async def test_a_tool_is_called_with_valid_arguments(choice, reason):
    answer = await chat(make_api(), tools=[TOOL], tool_choice=choice)
    (got,) = answer["choices"]
    (call,) = got["message"]["tool_calls"]
    assert got["finish_reason"] == reason
    assert call["id"].startswith("chatcmpl-tool-")
    assert (call["type"], call["function"]["name"]) == ("function", "get_weather")
    jsonschema.validate(json.loads(call["function"]["arguments"]), TOOL["function"]["parameters"])
    assert not got["message"]["content"]


@timeless
async def test_tools_are_called_until_the_conversation_holds_enough_results():
    api = make_api(tool_rounds=2)
    messages = list(HELLO)
    rounds = 0
    while calls := (await chat(api, messages, tools=[TOOL]))["choices"][0]["message"].get("tool_calls"):
        rounds += 1
        messages += [
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": calls[0]["id"], "content": "Rain."},
        ]
    assert rounds == 2
    forced = await chat(api, messages, tools=[TOOL], tool_choice="required")
    assert forced["choices"][0]["message"]["tool_calls"]
    free = await chat(api, tools=[TOOL], tool_choice="none")
    assert "tool_calls" not in free["choices"][0]["message"]


@timeless
async def test_an_exact_length_holds_for_a_tool_call_too():
    answer = await chat(make_api(), tools=[TOOL], max_tokens=150, ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == 150
    message = answer["choices"][0]["message"]
    assert message["content"].startswith("Filler text")
    json.loads(message["tool_calls"][0]["function"]["arguments"])
    assert answer["choices"][0]["finish_reason"] == "tool_calls"


@timeless
async def test_a_tool_call_that_is_cut_is_told_as_far_as_it_goes():
    for most in range(1, 25):
        answer = await chat(make_api(), tools=[TOOL], tool_choice="required", max_tokens=most)
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] == most


@timeless
async def test_a_response_format_is_met():
    api = make_api()
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    asked = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    answer = await chat(api, response_format=asked)
    jsonschema.validate(json.loads(answer["choices"][0]["message"]["content"]), schema)
    assert answer["choices"][0]["finish_reason"] == "stop"
    answer = await chat(api, response_format={"type": "json_object"})
    assert isinstance(json.loads(answer["choices"][0]["message"]["content"]), dict)


# --- streams ----------------------------------------------------------------------------------------------------------


@timeless
async def test_a_chat_stream_tells_the_role_then_the_text_then_the_usage():
    api = make_api()
    whole = await chat(api, max_tokens=80)
    events = await stream(api, CHAT, {"messages": HELLO, "max_tokens": 80, "stream_options": {"include_usage": True}})
    first, *middle, last = events
    assert {one["object"] for one in events} == {"chat.completion.chunk"}
    assert len({(one["id"], one["created"], one["model"]) for one in events}) == 1
    assert first["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    ]
    assert len(middle) > 2
    text = "".join(one["choices"][0]["delta"]["content"] for one in middle)
    assert text == whole["choices"][0]["message"]["content"]
    reasons = [one["choices"][0]["finish_reason"] for one in middle]
    assert set(reasons[:-1]) == {None}
    assert reasons[-1] == whole["choices"][0]["finish_reason"]
    assert last["choices"] == []
    assert last["usage"] == {
        **{name: whole["usage"][name] for name in ("prompt_tokens", "total_tokens", "completion_tokens")},
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert "usage" not in first


@timeless
async def test_a_stream_without_usage_has_none():
    events = await stream(make_api(), CHAT, {"messages": HELLO})
    assert not [one for one in events if "usage" in one or not one["choices"]]


@timeless
async def test_continuous_usage_grows_to_the_whole():
    asked = {"include_usage": True, "continuous_usage_stats": True}
    for path, body in ((CHAT, {"messages": HELLO}), (COMPLETIONS, {"prompt": "Hello"})):
        events = await stream(make_api(), path, {**body, "max_tokens": 60, "min_tokens": 60, "stream_options": asked})
        told = [one["usage"]["completion_tokens"] for one in events]
        assert told == sorted(told)
        assert told[-1] == 60
        assert all(
            one["usage"]["total_tokens"] == one["usage"]["prompt_tokens"] + n
            for one, n in zip(events, told, strict=True)
        )


@timeless
async def test_a_completion_stream_tells_the_text_and_the_ids():
    api = make_api()
    body = {"prompt": [3, 4, 5], "max_tokens": 64, "ignore_eos": True, "return_token_ids": True}
    whole = await complete(api, **body)
    events = await stream(api, COMPLETIONS, body)
    choices = [one["choices"][0] for one in events]
    assert "".join(choice["text"] for choice in choices) == whole["choices"][0]["text"]
    assert [number for choice in choices for number in choice["token_ids"]] == whole["choices"][0]["token_ids"]
    assert [choice["prompt_token_ids"] for choice in choices] == [[3, 4, 5], *[None] * (len(choices) - 1)]
    assert {one["object"] for one in events} == {"text_completion"}
    assert choices[-1]["finish_reason"] == "length"


@timeless
async def test_several_streamed_prompts_come_mixed_and_whole():
    api = make_api()
    body = {"prompt": ["one", "two", "three"], "max_tokens": 40, "stream_options": {"include_usage": True}}
    whole = await complete(api, ["one", "two", "three"], max_tokens=40)
    *events, last = await stream(api, COMPLETIONS, body)
    texts = ["", "", ""]
    for one in events:
        texts[one["choices"][0]["index"]] += one["choices"][0]["text"]
    assert texts == [choice["text"] for choice in whole["choices"]]
    assert last["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


@pytest.mark.parametrize(("choice", "reason"), [("required", "tool_calls"), (NAMED, "stop"), ("auto", "tool_calls")])
@pytest.mark.parametrize("least", [0, 100])
@pytest.mark.parametrize("step", [0.005, 0.05, 1.0])
@timeless
async def test_a_streamed_tool_call_is_the_whole_one_in_pieces(choice, reason, least, step):
    api = make_api(step=step)
    body = {"messages": HELLO, "tools": [TOOL], "tool_choice": choice, "min_tokens": least}
    whole = (await chat(api, **body))["choices"][0]
    _, *events = await stream(api, CHAT, body)
    choices = [one["choices"][0] for one in events]
    assert "".join(got["delta"].get("content", "") for got in choices) == (whole["message"]["content"] or "")
    first, *more = [call for got in choices for call in got["delta"].get("tool_calls", [])]
    assert first["id"].startswith("chatcmpl-tool-")
    assert (first["type"], first["index"], first["function"]["name"]) == ("function", 0, "get_weather")
    assert all(set(call) == {"index", "function"} and set(call["function"]) == {"arguments"} for call in more)
    arguments = "".join(call["function"]["arguments"] for call in [first, *more])
    assert arguments == whole["message"]["tool_calls"][0]["function"]["arguments"]
    assert choices[-1]["finish_reason"] == whole["finish_reason"] == reason


@timeless
async def test_a_stream_comes_as_the_engine_writes_it():
    api = make_api(step=0.05)
    loop = asyncio.get_running_loop()
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 100, "ignore_eos": True, "stream": True}
    answer = await api.handle("POST", CHAT, json.dumps(body).encode())
    times = [loop.time() async for _ in answer.body]
    assert times[0] < 0.2
    assert 4.9 < times[-1] < 5.2
    assert len(times) > 30


# --- who goes away ----------------------------------------------------------------------------------------------------


def busy(api):
    return api.engine.counters().num_requests_running + api.engine.counters().num_requests_waiting


@timeless
async def test_a_cancelled_request_is_aborted():
    api = make_api()
    task = asyncio.create_task(chat(api, max_tokens=5000, ignore_eos=True))
    await asyncio.sleep(1)
    assert busy(api) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(1)
    assert busy(api) == 0
    assert api.engine.counters().request_success == 0


@pytest.mark.parametrize("read", [0, 1, 3])
@pytest.mark.parametrize("prompts", [1, 3])
@timeless
async def test_a_stream_that_is_closed_early_is_aborted(read, prompts):
    api = make_api()
    body = {"prompt": ["word"] * prompts, "max_tokens": 5000, "ignore_eos": True, "stream": True}
    answer = await api.handle("POST", COMPLETIONS, json.dumps(body).encode())
    pieces = aiter(answer.body)
    for _ in range(read):
        await anext(pieces)
    await asyncio.sleep(1)
    assert busy(api) == prompts
    await answer.body.aclose()
    await answer.body.aclose()
    await asyncio.sleep(1)
    assert busy(api) == 0


@timeless
async def test_one_cancelled_request_of_several_prompts_aborts_all():
    api = make_api()
    task = asyncio.create_task(complete(api, ["a", "b"], max_tokens=5000, ignore_eos=True))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(1)
    assert busy(api) == 0


# --- refusals ---------------------------------------------------------------------------------------------------------

BAD = [
    (CHAT, {"messages": HELLO, "model": "other"}, 404, "NotFoundError", "model", "The model `other` does not exist."),
    (CHAT, {"messages": HELLO, "max_tokens": 0}, 400, "BadRequestError", "max_tokens", "at least 1, got 0"),
    (CHAT, {"messages": HELLO, "max_tokens": 9000}, 400, "BadRequestError", "max_tokens", "max_model_len=8192"),
    (CHAT, {"messages": HELLO, "max_completion_tokens": 9000}, 400, "BadRequestError", "max_completion_tokens", "9000"),
    (CHAT, {"messages": HELLO, "max_tokens": 4, "min_tokens": 5}, 400, "BadRequestError", "min_tokens", "got 5"),
    (CHAT, {"messages": HELLO, "min_tokens": -1}, 400, "BadRequestError", "min_tokens", "got -1"),
    (CHAT, {"messages": HELLO, "n": 2}, 400, "BadRequestError", "n", "n must be 1"),
    (CHAT, {"messages": HELLO, "priority": 2}, 400, "BadRequestError", "priority", "Priority scheduling"),
    (CHAT, {"messages": HELLO, "logprobs": True}, 400, "BadRequestError", "logprobs", "not supported"),
    (CHAT, {"messages": HELLO, "cache_salt": ""}, 400, "BadRequestError", "cache_salt", "non-empty"),
    (
        CHAT,
        {"messages": HELLO, "stream_options": {"include_usage": True}},
        400,
        "BadRequestError",
        "stream_options",
        "",
    ),
    (CHAT, {"messages": HELLO, "stream": True, "stream_options": 1}, 400, "Bad Request", "body.stream_options", ""),
    (CHAT, {"messages": HELLO, "tools": []}, 400, "BadRequestError", "tools", "must not be an empty array"),
    (CHAT, {"messages": HELLO, "tools": "x"}, 400, "Bad Request", "body.tools", "list"),
    (CHAT, {"messages": HELLO, "tools": [{}]}, 400, "Bad Request", "body.tools.0", "name"),
    (CHAT, {"messages": HELLO, "tool_choice": "auto"}, 400, "BadRequestError", "tool_choice", "`tools` must be set"),
    (CHAT, {"messages": HELLO, "tools": [TOOL], "tool_choice": "some"}, 400, "BadRequestError", "tool_choice", "some"),
    (
        CHAT,
        {"messages": HELLO, "tools": [TOOL], "tool_choice": {"function": {"name": "other"}}},
        400,
        "BadRequestError",
        "tool_choice",
        "does not match any",
    ),
    (
        CHAT,
        {"messages": HELLO, "tools": [TOOL], "tool_choice": {"function": 1}},
        400,
        "BadRequestError",
        "tool_choice.function",
        "Correct usage",
    ),
    (
        CHAT,
        {"messages": HELLO, "tools": [{"function": {"name": "f", "parameters": {"pattern": "a"}}}]},
        400,
        "BadRequestError",
        "tools",
        "`pattern`",
    ),
    (
        CHAT,
        {"messages": HELLO, "response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}},
        400,
        "BadRequestError",
        "response_format",
        "`not`",
    ),
    (
        CHAT,
        {"messages": HELLO, "response_format": {"type": "json_schema"}},
        400,
        "BadRequestError",
        "response_format",
        "",
    ),
    (CHAT, {"messages": HELLO, "response_format": {"type": "x"}}, 400, "BadRequestError", "response_format", "type"),
    (CHAT, {"messages": []}, 400, "BadRequestError", "messages", "empty"),
    (CHAT, {}, 400, "Bad Request", "body.messages", "messages"),
    (CHAT, {"messages": ["Hi"]}, 400, "Bad Request", "body.messages.0.role", "role"),
    (CHAT, {"messages": [{"role": "user", "content": 5}]}, 400, "Bad Request", "body.messages.0.content", ""),
    (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        400,
        "BadRequestError",
        "messages",
        "not a multimodal model",
    ),
    (
        CHAT,
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": 1}}]}]},
        400,
        "Bad Request",
        "body.messages.0.tool_calls",
        "",
    ),
    (CHAT, {"messages": HELLO, "max_tokens": "ten"}, 400, "Bad Request", "body.max_tokens", "integer"),
    (CHAT, {"messages": HELLO, "stream": "yes"}, 400, "Bad Request", "body.stream", "boolean"),
    (CHAT, {"messages": HELLO, "model": 5}, 400, "Bad Request", "body.model", "string"),
    (COMPLETIONS, {}, 400, "BadRequestError", "prompt", "must be provided"),
    (COMPLETIONS, {"prompt": ""}, 400, "BadRequestError", "prompt", "must be provided"),
    (COMPLETIONS, {"prompt": []}, 400, "BadRequestError", "prompt", "must be provided"),
    (COMPLETIONS, {"prompt": ["a", ""]}, 400, "BadRequestError", "prompt", "empty"),
    (COMPLETIONS, {"prompt": [1, "a"]}, 400, "Bad Request", "body.prompt", "integers"),
    (COMPLETIONS, {"prompt": [1.5]}, 400, "Bad Request", "body.prompt", ""),
    (COMPLETIONS, {"prompt": [1, -2]}, 400, "BadRequestError", "prompt", "vocabulary"),
    (COMPLETIONS, {"prompt": {"a": 1}}, 400, "Bad Request", "body.prompt", ""),
    (COMPLETIONS, {"prompt": "a", "echo": True}, 400, "BadRequestError", "echo", "not supported"),
    (COMPLETIONS, {"prompt": [7] * 8193}, 400, "BadRequestError", "input_tokens", "contains 8193 input tokens"),
    (COMPLETIONS, {"prompt": [7] * 8192}, 400, "BadRequestError", "max_tokens", "at least 1, got 0"),
]


@pytest.mark.parametrize(("path", "body", "status", "kind", "param", "message"), BAD)
@timeless
async def test_what_cannot_be_answered_is_refused_in_vllms_shape(path, body, status, kind, param, message):
    api = make_api()
    got, answer = await ask(api, path, body)
    error = answer["error"]
    assert set(answer) == {"error"}
    assert set(error) == {"message", "type", "param", "code"}
    assert (got, error["code"], error["type"], error["param"]) == (status, status, kind, param)
    assert message in error["message"]
    await asyncio.sleep(1)
    assert api.engine.engine.steps == 0


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[1]", b"5", b'"text"', b"[" * 100_000])
@timeless
async def test_a_body_that_is_no_json_object_is_refused(body):
    answer = await make_api().handle("POST", CHAT, body)
    assert answer.status == 400
    error = json.loads(answer.body)["error"]
    assert (error["type"], error["code"]) == ("Bad Request", 400)
    assert error["param"].startswith("body")


@timeless
async def test_unknown_paths_and_methods_are_told_as_fastapi_does():
    api = make_api()
    assert await ask(api, "/v1/unknown") == (404, {"detail": "Not Found"})
    assert await ask(api, CHAT, method="GET") == (405, {"detail": "Method Not Allowed"})
    assert (await api.handle("GET", CHAT)).headers == {"Allow": "POST"}
    assert await ask(api, "/metrics") == (405, {"detail": "Method Not Allowed"})


@timeless
async def test_an_output_that_would_pass_the_context_is_cut_there():
    answer = await complete(make_api(), [7] * 8000, max_tokens=1000, ignore_eos=True)
    assert answer["usage"]["total_tokens"] == 8192
    answer = await complete(make_api(), [7] * 8191, max_tokens=1000)
    assert answer["usage"]["completion_tokens"] == 1
    assert answer["choices"][0]["finish_reason"] == "length"


@timeless
async def test_text_that_is_no_valid_unicode_is_answered():
    status, _ = await ask(make_api(), CHAT, {"messages": [{"role": "user", "content": "half \ud83d a pair"}]})
    assert status == 200


@timeless
async def test_small_pages():
    api = make_api()
    assert await ask(api, "/version", method="GET") == (200, {"version": "0.32.0+test"})
    for path in ("/health", "/ping"):
        answer = await api.handle("GET", path)
        assert (answer.status, answer.body) == (200, b"")
    status, models = await ask(api, "/v1/models", method="GET")
    assert status == 200
    (card,) = models["data"]
    assert (models["object"], card["id"], card["object"], card["max_model_len"]) == ("list", MODEL, "model", 8192)


def test_tool_rounds_cannot_be_negative():
    with pytest.raises(ValueError, match="tool_rounds"):
        make_api(tool_rounds=-1)


# --- many, long, repeatable -------------------------------------------------------------------------------------------


def test_the_same_requests_get_the_same_answers_at_the_same_times():
    async def main():
        api = make_api(blocks=601)
        loop = asyncio.get_running_loop()

        async def agent(number):
            messages = [{"role": "user", "content": f"Agent {number}"}]
            seen = []
            for _ in range(4):
                answer = await chat(api, messages, tools=[TOOL])
                message = answer["choices"][0]["message"]
                seen.append((loop.time(), message["content"], message.get("tool_calls"), answer["usage"]))
                messages += [{"role": "assistant", "content": message["content"]}, {"role": "user", "content": "On."}]
            return seen

        seen = await asyncio.gather(*(agent(number) for number in range(40)))
        return json.dumps(seen), api.engine.counters()

    assert run(main()) == run(main())


def test_a_long_history_is_cheap_to_send_again():
    """5 ms of processor time for 50,000 tokens; the bound here leaves room for a slow machine."""

    async def main():
        api = make_api(blocks=10_001, max_model_len=100_000)
        messages = [{"role": "user", "content": f"Message {at}: " + "some words of it " * 240} for at in range(50)]
        body = json.dumps({"model": MODEL, "messages": messages, "max_tokens": 1}).encode()
        costs = []
        for _ in range(6):
            began = time.process_time()
            answer = await api.handle("POST", CHAT, body)
            costs.append(time.process_time() - began)
        assert json.loads(answer.body)["usage"]["prompt_tokens"] > 48_000
        return min(costs)

    assert run(main()) < 0.025
