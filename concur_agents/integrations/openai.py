"""`gate.openai(client)`: every inference request of an `AsyncOpenAI` client becomes a turn of its agent.

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

Works with openai 2 and 3. Web sockets (`responses.connect`, `realtime`) and synchronous clients are not gated.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar, cast

from concur_agents.errors import MissingExtra

from .openai_stream import follow_body
from .openai_usage import report_usage

try:
    from openai import AsyncOpenAI
except ImportError as missing:
    raise MissingExtra(
        "gate.openai() needs the openai package, version 2 or 3: pip install 'concur-agents[openai]'"
    ) from missing

if TYPE_CHECKING:
    from concur_agents.agent import Turn
    from concur_agents.gate import ConcurGate

T = TypeVar("T")

SESSION_HEADER = "X-Session-ID"
"""Routers in front of several servers hash on it, so that an agent's turns find its prefix."""

_USAGE_ON_REQUEST = ("/chat/completions", "/completions")
_TURN_PATHS = (*_USAGE_ON_REQUEST, "/responses")


def wrap_openai(gate: ConcurGate, client: T) -> T:
    """A copy of an `AsyncOpenAI` client whose inference requests are turns at the gate.

    The client itself stays as it is. The copy is what `client.copy()` makes: it has the same class, settings
    and connection pool, so that closing either closes both. A client that this gate has gated is returned as
    it is.

    Args:
        gate: Where the turns are taken.
        client: An `openai.AsyncOpenAI`, or one of a subclass such as `AsyncAzureOpenAI`.

    Returns:
        The gated copy.

    Raises:
        TypeError: If it is not an `AsyncOpenAI`, or is gated by another gate already.
        MissingExtra: On import of this module, if openai is not installed.
    """
    if not isinstance(client, AsyncOpenAI):
        raise TypeError(f"gate.openai() takes an openai.AsyncOpenAI client, {_instead(client)}")
    request = vars(client).get("request")
    if isinstance(request, _GatedRequest):
        if request.gate is gate:
            return client
        raise TypeError("this client is gated by another gate: pass the AsyncOpenAI client that was given to that one")
    return cast("T", _gated(gate, client.copy()))


def _instead(client: object) -> str:
    """What was passed instead of a client, and what to do about it."""
    kind = type(client)
    if isinstance(client, type):
        return f"not a class: pass an instance, as in gate.openai({client.__name__}(base_url=…))"
    if kind.__module__.partition(".")[0] == "openai" and "Async" not in kind.__name__ and kind.__name__.endswith("AI"):
        return f"not the synchronous {kind.__name__}: use Async{kind.__name__}, with the same arguments"
    if kind.__name__ == "ChatOpenAI":
        return (
            "not a ChatOpenAI: gate an AsyncOpenAI and pass it on, "
            "ChatOpenAI(…, async_client=client.chat.completions, root_async_client=client)"
        )
    return f"not a {kind.__qualname__}: pass the client itself, as in gate.openai(AsyncOpenAI(base_url=…))"


def _gated(gate: ConcurGate, client: AsyncOpenAI) -> AsyncOpenAI:
    """Gate a client in place, and the copies it will make of itself.

    The methods are replaced on the instance. All resources of a client call its `request`; wrapping `create`
    would miss copies and raw responses, and another class cannot be set (the object layout differs).
    """
    make_copy = client.copy

    def copy(*args: Any, **kwargs: Any) -> AsyncOpenAI:
        return _gated(gate, make_copy(*args, **kwargs))

    vars(client).update(request=_GatedRequest(gate, client), copy=copy, with_options=copy)
    return client


class _GatedRequest:
    """`AsyncOpenAI.request`, through which all calls of a client go, as a turn where it infers."""

    def __init__(self, gate: ConcurGate, client: AsyncOpenAI) -> None:
        self.gate = gate
        self._client = client
        self._send = client.request

    async def __call__(self, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        path = "/" + options.url.partition("?")[0].strip("/")
        if options.method.lower() != "post" or not path.endswith(_TURN_PATHS):
            return await self._send(cast_to, options, stream=stream, stream_cls=stream_cls)
        turn = await self.gate.begin_turn()
        with ExitStack() as ending:
            ending.callback(turn.end)
            asking = _asking_for_usage(options) if path.endswith(_USAGE_ON_REQUEST) else {}
            changes = asking | self._session_header(options, turn) | _weighing(options, turn)
            options = options.model_copy(update=changes)
            result = await self._send(cast_to, options, stream=stream, stream_cls=stream_cls)
            response = _http_response(result)
            if response is None:
                report_usage(turn, result)
            elif response.is_closed:
                report_usage(turn, _json(response))
            else:
                follow_body(response, turn, hide_usage=bool(asking))
                ending.pop_all()
        return result

    def _session_header(self, options: Any, turn: Turn) -> dict[str, Any]:
        headers = options.headers if isinstance(options.headers, Mapping) else {}
        if any(name.lower() == SESSION_HEADER.lower() for name in (*self._client.default_headers, *headers)):
            return {}
        return {"headers": {**headers, SESSION_HEADER: turn.agent.session_id}}


def _asking_for_usage(options: Any) -> dict[str, Any]:
    """What to change in a request for a stream so that it tells its usage; nothing if the caller said either way."""
    body = options.json_data if isinstance(options.json_data, Mapping) else {}
    extra = options.extra_json if isinstance(options.extra_json, Mapping) else {}
    merged = {**body, **extra}
    said = merged.get("stream_options") or {}
    if merged.get("stream") is not True or not isinstance(said, Mapping) or said.get("include_usage") is not None:
        return {}
    # vLLM ignores continuous_usage_stats where include_usage is not set (0.32, serve/utils/api_utils.py): left
    # in, it would now put usage into every chunk of a caller who never saw any.
    asking = {key: value for key, value in said.items() if key != "continuous_usage_stats"}
    return {"extra_json": {**extra, "stream_options": {**asking, "include_usage": True}}}


def _weighing(options: Any, turn: Turn) -> dict[str, Any]:
    """Report an answer before the SDK parses it into the caller's model: the server served it, even if that fails."""
    parse = options.post_parser
    if not callable(parse):
        return {}

    def parse_weighed(answer: Any) -> Any:
        report_usage(turn, answer)
        return parse(answer)

    return {"post_parser": parse_weighed}


def _http_response(result: Any) -> Any:
    """The HTTP response behind a raw response, a streaming response or a stream; None behind a model."""
    holders = (result, getattr(result, "http_response", None), getattr(result, "response", None))
    return next((holder for holder in holders if hasattr(holder, "aiter_bytes")), None)


def _json(response: Any) -> Any:
    """The JSON of a response that was read; None if there is none, or it was closed unread."""
    try:
        return response.json()
    except (ValueError, RuntimeError):
        return None
