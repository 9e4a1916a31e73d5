"""Every way of asking a server through the synchronous OpenAI SDK, each as `call(client) -> the answer's text`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openai import OpenAI, Stream
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from .openai_calls import ASK, ASK_RESPONSE, ASK_TEXT, Answer, text_of

if TYPE_CHECKING:
    from collections.abc import Callable


def chat_create(client: OpenAI) -> str:
    return client.chat.completions.create(**ASK).choices[0].message.content


def chat_create_stream(client: OpenAI) -> str:
    return text_of(list(client.chat.completions.create(**ASK, stream=True)))


def chat_create_stream_as_context(client: OpenAI) -> str:
    with client.chat.completions.create(**ASK, stream=True) as stream:
        return text_of(list(stream))


def chat_stream_helper(client: OpenAI) -> str:
    with client.chat.completions.stream(**ASK) as stream:
        return stream.get_final_completion().choices[0].message.content


def chat_parse(client: OpenAI) -> str:
    parsed = client.chat.completions.parse(**ASK, response_format=Answer)
    return f"the answer is {parsed.choices[0].message.parsed.answer}"


def chat_raw(client: OpenAI) -> str:
    return client.chat.completions.with_raw_response.create(**ASK).parse().choices[0].message.content


def chat_raw_stream(client: OpenAI) -> str:
    return text_of(list(client.chat.completions.with_raw_response.create(**ASK, stream=True).parse()))


def chat_streaming_response_parse(client: OpenAI) -> str:
    with client.chat.completions.with_streaming_response.create(**ASK) as response:
        return response.parse().choices[0].message.content


def chat_streaming_response_lines(client: OpenAI) -> str:
    with client.chat.completions.with_streaming_response.create(**ASK, stream=True) as response:
        lines = [line for line in response.iter_lines() if line.startswith("data: {")]
    return text_of([ChatCompletionChunk.model_validate_json(line[6:]) for line in lines])


def chat_streaming_response_stream(client: OpenAI) -> str:
    with client.chat.completions.with_streaming_response.create(**ASK, stream=True) as response:
        return text_of(list(response.parse()))


def chat_post(client: OpenAI) -> str:
    return client.post("/chat/completions", cast_to=ChatCompletion, body=ASK).choices[0].message.content


def chat_post_stream(client: OpenAI) -> str:
    stream = client.post(
        "chat/completions",
        cast_to=ChatCompletionChunk,
        body=ASK | {"stream": True},
        stream=True,
        stream_cls=Stream[ChatCompletionChunk],
    )
    return text_of(list(stream))


def completion(client: OpenAI) -> str:
    return client.completions.create(**ASK_TEXT).choices[0].text


def completion_stream(client: OpenAI) -> str:
    return "".join(chunk.choices[0].text for chunk in client.completions.create(**ASK_TEXT, stream=True))


def response(client: OpenAI) -> str:
    return client.responses.create(**ASK_RESPONSE).output_text


def response_stream(client: OpenAI) -> str:
    events = client.responses.create(**ASK_RESPONSE, stream=True)
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def response_stream_helper(client: OpenAI) -> str:
    with client.responses.stream(**ASK_RESPONSE) as stream:
        return stream.get_final_response().output_text


def response_parse(client: OpenAI) -> str:
    return f"the answer is {client.responses.parse(**ASK_RESPONSE, text_format=Answer).output_parsed.answer}"


def response_raw(client: OpenAI) -> str:
    return client.responses.with_raw_response.create(**ASK_RESPONSE).parse().output_text


def chat_of_a_copy_of_a_copy(client: OpenAI) -> str:
    return chat_create(client.with_options(timeout=30).copy(max_retries=1).with_options(timeout=20))


def stream_of_a_copy(client: OpenAI) -> str:
    return chat_create_stream(client.copy(timeout=30))


CALLS: dict[str, Callable[[OpenAI], str]] = {
    call.__name__: call
    for call in (
        chat_create,
        chat_create_stream,
        chat_create_stream_as_context,
        chat_stream_helper,
        chat_parse,
        chat_raw,
        chat_raw_stream,
        chat_streaming_response_parse,
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
        chat_of_a_copy_of_a_copy,
        stream_of_a_copy,
    )
}
