"""Every way of asking a server through the OpenAI SDK, each as `await call(client) -> the answer's text`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MODEL = "tiny"
ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "what is the answer?"}]}
ASK_TEXT: dict[str, Any] = {"model": MODEL, "prompt": "the answer is"}
ASK_RESPONSE: dict[str, Any] = {"model": MODEL, "input": "what is the answer?"}


class Answer(BaseModel):
    answer: int


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def chat_create(client: AsyncOpenAI) -> str:
    answer = await client.chat.completions.create(**ASK)
    return answer.choices[0].message.content


async def chat_create_stream(client: AsyncOpenAI) -> str:
    return text_of([chunk async for chunk in await client.chat.completions.create(**ASK, stream=True)])


async def chat_create_stream_as_context(client: AsyncOpenAI) -> str:
    async with await client.chat.completions.create(**ASK, stream=True) as stream:
        return text_of([chunk async for chunk in stream])


async def chat_stream_helper(client: AsyncOpenAI) -> str:
    async with client.chat.completions.stream(**ASK) as stream:
        async for _ in stream:
            pass
        return (await stream.get_final_completion()).choices[0].message.content


async def chat_stream_helper_parsed(client: AsyncOpenAI) -> str:
    async with client.chat.completions.stream(**ASK, response_format=Answer) as stream:
        parsed = (await stream.get_final_completion()).choices[0].message.parsed
    return f"the answer is {parsed.answer}"


async def chat_parse(client: AsyncOpenAI) -> str:
    parsed = await client.chat.completions.parse(**ASK, response_format=Answer)
    return f"the answer is {parsed.choices[0].message.parsed.answer}"


async def chat_raw(client: AsyncOpenAI) -> str:
    raw = await client.chat.completions.with_raw_response.create(**ASK)
    assert raw.status_code == 200
    return raw.parse().choices[0].message.content


async def chat_raw_of_client(client: AsyncOpenAI) -> str:
    return (await client.with_raw_response.chat.completions.create(**ASK)).parse().choices[0].message.content


async def chat_raw_parse(client: AsyncOpenAI) -> str:
    raw = await client.chat.completions.with_raw_response.parse(**ASK, response_format=Answer)
    return f"the answer is {raw.parse().choices[0].message.parsed.answer}"


async def chat_raw_stream(client: AsyncOpenAI) -> str:
    raw = await client.chat.completions.with_raw_response.create(**ASK, stream=True)
    return text_of([chunk async for chunk in raw.parse()])


async def chat_streaming_response_parse(client: AsyncOpenAI) -> str:
    async with client.chat.completions.with_streaming_response.create(**ASK) as response:
        return (await response.parse()).choices[0].message.content


async def chat_streaming_response_json(client: AsyncOpenAI) -> str:
    async with client.chat.completions.with_streaming_response.create(**ASK) as response:
        return (await response.json())["choices"][0]["message"]["content"]


async def chat_streaming_response_lines(client: AsyncOpenAI) -> str:
    async with client.chat.completions.with_streaming_response.create(**ASK, stream=True) as response:
        lines = [line async for line in response.iter_lines() if line.startswith("data: {")]
    return text_of([ChatCompletionChunk.model_validate_json(line[6:]) for line in lines])


async def chat_streaming_response_stream(client: AsyncOpenAI) -> str:
    async with client.chat.completions.with_streaming_response.create(**ASK, stream=True) as response:
        return text_of([chunk async for chunk in await response.parse()])


async def chat_post(client: AsyncOpenAI) -> str:
    answer = await client.post("/chat/completions", cast_to=ChatCompletion, body=ASK)
    return answer.choices[0].message.content


async def chat_post_stream(client: AsyncOpenAI) -> str:
    stream = await client.post(
        "chat/completions",
        cast_to=ChatCompletionChunk,
        body=ASK | {"stream": True},
        stream=True,
        stream_cls=AsyncStream[ChatCompletionChunk],
    )
    return text_of([chunk async for chunk in stream])


async def completion(client: AsyncOpenAI) -> str:
    return (await client.completions.create(**ASK_TEXT)).choices[0].text


async def completion_stream(client: AsyncOpenAI) -> str:
    chunks = [chunk async for chunk in await client.completions.create(**ASK_TEXT, stream=True)]
    return "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)


async def response(client: AsyncOpenAI) -> str:
    return (await client.responses.create(**ASK_RESPONSE)).output_text


async def response_stream(client: AsyncOpenAI) -> str:
    events = [event async for event in await client.responses.create(**ASK_RESPONSE, stream=True)]
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


async def response_stream_helper(client: AsyncOpenAI) -> str:
    async with client.responses.stream(**ASK_RESPONSE) as stream:
        return (await stream.get_final_response()).output_text


async def response_parse(client: AsyncOpenAI) -> str:
    parsed = (await client.responses.parse(**ASK_RESPONSE, text_format=Answer)).output_parsed
    return f"the answer is {parsed.answer}"


async def response_raw(client: AsyncOpenAI) -> str:
    return (await client.responses.with_raw_response.create(**ASK_RESPONSE)).parse().output_text


async def response_raw_stream(client: AsyncOpenAI) -> str:
    raw = await client.responses.with_raw_response.create(**ASK_RESPONSE, stream=True)
    events = [event async for event in raw.parse()]
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


async def chat_of_a_copy_of_a_copy(client: AsyncOpenAI) -> str:
    return await chat_create(client.with_options(timeout=30).copy(max_retries=1).with_options(timeout=20))


async def stream_of_a_copy(client: AsyncOpenAI) -> str:
    return await chat_create_stream(client.copy(timeout=30))


CALLS: dict[str, Callable[[AsyncOpenAI], Awaitable[str]]] = {
    call.__name__: call
    for call in (
        chat_create,
        chat_create_stream,
        chat_create_stream_as_context,
        chat_stream_helper,
        chat_stream_helper_parsed,
        chat_parse,
        chat_raw,
        chat_raw_of_client,
        chat_raw_parse,
        chat_raw_stream,
        chat_streaming_response_parse,
        chat_streaming_response_json,
        chat_streaming_response_lines,
        chat_streaming_response_stream,
        chat_post,
        chat_post_stream,
        completion,
        completion_stream,
        response,
        response_stream,
        response_stream_helper,
        response_parse,
        response_raw,
        response_raw_stream,
        chat_of_a_copy_of_a_copy,
        stream_of_a_copy,
    )
}
