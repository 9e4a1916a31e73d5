"""`gate.openai(client)`: every inference request of an OpenAI client becomes a turn of its agent.

```python
client = gate.openai(AsyncOpenAI(base_url="http://localhost:8000/v1", api_key="-"))
async with gate.agent("task-17"):
    answer = await client.chat.completions.create(model="qwen3", messages=messages)
```

A turn is one POST to `/chat/completions`, `/completions` or `/responses`, with all its retries, in whatever
way it is made: `create`, `parse`, `stream`, `with_raw_response`, `with_streaming_response`, `client.post(…)`,
and the same on any `with_options()` or `copy()` of the client. It begins before the request is sent (here a
paused agent waits), carries the header `X-Session-ID` unless the caller sets one, and ends when the answer is
there; a stream's turn ends when the stream is read to its end, closed, or dropped. Everything else
(embeddings, models, files, `GET`) passes untouched.

Streams tell their usage only if `stream_options.include_usage` is set, so it is set for who did not say, and
the chunk without choices that it adds is kept from them. Who asks for it sees it; who sets it to False gets
turns without a weight. A reader who leaves before the last chunk leaves a turn without a weight too.

LangChain's `ChatOpenAI` takes the gated client in two places, both of them needed: structured output and the
Responses API go through the root client.

```python
client = gate.openai(AsyncOpenAI(base_url="http://localhost:8000/v1", api_key="-"))
model = ChatOpenAI(model="qwen3", async_client=client.chat.completions, root_async_client=client)
```

`ainvoke`, `astream`, `bind_tools` and `with_structured_output` are then gated. The synchronous `invoke` is
not: it goes through another client, of ChatOpenAI's own, that knows nothing of this one's `base_url`.

An `OpenAI` client is for agents that run in threads: `gate.openai(OpenAI(…))` inside `with gate.sync.agent():`, or
in a thread that `asyncio.to_thread` started inside `async with gate.agent():`. Its calls block their thread until
their agent has its turn. Called in a thread that runs an event loop they would block that, and raise `WrongLoop`.

Each attempt that the server answers with 429 or 503 is noted on its turn as a refusal, also those that the client
retries by itself: the gate takes them for congestion.

Works with openai 2 and 3. Web sockets (`responses.connect`, `realtime`) are not gated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from concur_agents.errors import MissingExtra, WrongLoop

from .openai_request import announce, is_turn, names_session, noting_refusals, prepared, unread_response, watch_attempts
from .openai_stream import follow_body, follow_sync_body

try:
    from openai import AsyncOpenAI, OpenAI
except ImportError as missing:
    raise MissingExtra(
        "gate.openai() needs the openai package, version 2 or 3: pip install 'concur-agents[openai]'"
    ) from missing

if TYPE_CHECKING:
    from concur_agents.gate import ConcurGate
    from concur_agents.sync import SyncTurn

T = TypeVar("T")
Client: TypeAlias = AsyncOpenAI | OpenAI


def wrap_openai(gate: ConcurGate, client: T) -> T:
    """A copy of an OpenAI client whose inference requests are turns at the gate.

    The client itself stays as it is. The copy is what `client.copy()` makes: it has the same class, settings
    and connection pool, so that closing either closes both. A client that this gate has gated is returned as
    it is.

    Args:
        gate: Where the turns are taken.
        client: An `openai.AsyncOpenAI` or `openai.OpenAI`, or one of a subclass such as `AsyncAzureOpenAI`.

    Returns:
        The gated copy.

    Raises:
        TypeError: If it is none of these, or is gated by another gate already.
        MissingExtra: On import of this module, if openai is not installed.
    """
    if not isinstance(client, AsyncOpenAI | OpenAI):
        raise TypeError(f"gate.openai() takes an openai.AsyncOpenAI or openai.OpenAI client, {_instead(client)}")
    request = vars(client).get("request")
    if isinstance(request, _GatedRequest):
        if request.gate is gate:
            return client
        raise TypeError("this client is gated by another gate: pass the client that was given to that one")
    return cast("T", _gated(gate, client.copy()))


def _instead(client: object) -> str:
    """What was passed instead of a client, and what to do about it."""
    kind = type(client)
    if isinstance(client, type):
        return f"not a class: pass an instance, as in gate.openai({client.__name__}(base_url=…))"
    if kind.__name__ == "ChatOpenAI":
        return (
            "not a ChatOpenAI: gate an AsyncOpenAI and pass it on, "
            "ChatOpenAI(…, async_client=client.chat.completions, root_async_client=client)"
        )
    return f"not a {kind.__qualname__}: pass the client itself, as in gate.openai(AsyncOpenAI(base_url=…))"


def _gated(gate: ConcurGate, client: Client) -> Client:
    """Gate a client in place, and the copies it will make of itself.

    The methods are replaced on the instance. All resources of a client call its `request`; wrapping `create`
    would miss copies and raw responses, and another class cannot be set (the object layout differs).
    """
    make_copy = client.copy

    def copy(*args: Any, **kwargs: Any) -> Client:
        return _gated(gate, make_copy(*args, **kwargs))

    watch_attempts(client)
    request = _AsyncRequest(gate, client) if isinstance(client, AsyncOpenAI) else _SyncRequest(gate, client)
    vars(client).update(request=request, copy=copy, with_options=copy)
    return client


class _GatedRequest:
    """`request`, through which all calls of a client go, as a turn where it infers."""

    def __init__(self, gate: ConcurGate, client: Client) -> None:
        self.gate = gate
        self._add_session = not names_session(client.default_headers)
        self._send: Any = client.request


class _AsyncRequest(_GatedRequest):
    async def __call__(self, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        if not is_turn(options):
            return await self._send(cast_to, options, stream=stream, stream_cls=stream_cls)
        turn = await self.gate.begin_turn()
        over = True
        try:
            announce(options, turn, first=not turn.agent.turns)
            options, hide_usage = prepared(options, turn, add_session=self._add_session)
            with noting_refusals(turn):
                result = await self._send(cast_to, options, stream=stream, stream_cls=stream_cls)
            response = unread_response(result, turn)
            if response is not None:
                follow_body(response, turn, hide_usage=hide_usage)
                over = False
        finally:
            if over:
                turn.end()
        return result


class _SyncRequest(_GatedRequest):
    def __call__(self, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        if not is_turn(options):
            return self._send(cast_to, options, stream=stream, stream_cls=stream_cls)
        turn = self._begin()
        over = True
        try:
            announce(options, turn, first=not turn.turn.agent.turns)
            options, hide_usage = prepared(options, turn, add_session=self._add_session)
            with noting_refusals(turn):
                result = self._send(cast_to, options, stream=stream, stream_cls=stream_cls)
            response = unread_response(result, turn)
            if response is not None:
                follow_sync_body(response, turn, hide_usage=hide_usage)
                over = False
        finally:
            if over:
                turn.end_soon()  # nothing here depends on its having ended
        return result

    def _begin(self) -> SyncTurn:
        try:
            return self.gate.sync.begin_turn()
        except WrongLoop as error:
            raise WrongLoop(
                "a call of a synchronous OpenAI client would block the event loop that runs in this thread: use "
                "gate.openai(AsyncOpenAI(…)) and await its calls, or run the agent in a thread, as in "
                "`await asyncio.to_thread(agent)`"
            ) from error
