"""What makes a request of the OpenAI SDK a turn, whether its client is asynchronous or not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from .openai_usage import report_usage

if TYPE_CHECKING:
    from concur_agents.agent import Turn
    from concur_agents.sync.face import SyncTurn

    from .openai_usage import TurnOfRequest

SESSION_HEADER = "X-Session-ID"
"""Routers in front of several servers hash on it, so that an agent's turns find its prefix."""

_SESSION_HEADER = SESSION_HEADER.lower()

_USAGE_ON_REQUEST = ("/chat/completions", "/completions")
_TURN_PATHS = (*_USAGE_ON_REQUEST, "/responses")

_PROMPT_PARTS = ("messages", "prompt", "input", "instructions", "tools")

CHARACTERS_A_TOKEN = 4.0
"""Of English text with vocabularies of 100,000 tokens, by OpenAI's rule of thumb; code has fewer, Chinese fewer still.
It sizes agents until the server has counted one of them."""

_REFUSED = (429, 503)
"""Too many requests; service unavailable: vLLM's answer over `--max-num-queued-reqs` or `-tokens` (0.32)."""


def is_turn(options: Any) -> bool:
    """Whether a request infers."""
    return bool(options.method.lower() == "post" and _path(options).endswith(_TURN_PATHS))


def _path(options: Any) -> str:
    return "/" + str(options.url).partition("?")[0].strip("/")


def names_session(headers: Iterable[str]) -> bool:
    """Whether one of these headers is the session's."""
    return any(name.lower() == _SESSION_HEADER for name in headers)


def prepared(options: Any, turn: TurnOfRequest, *, add_session: bool) -> tuple[Any, bool]:
    """A request as its turn sends it.

    Args:
        options: The request as the SDK makes it.
        turn: The turn that it is.
        add_session: Whether to name the agent's session, unless the request has a header that does.

    Returns:
        The changed copy, and whether the usage that it asks for is to be hidden from the caller, who did not ask.
    """
    changes = asking = _asking_for_usage(options)
    if add_session:
        changes = changes | _session_header(options, turn)
    if callable(options.post_parser):
        changes = changes | _weighing(options, turn)
    return options.model_copy(update=changes), bool(asking)


def announce(options: Any, turn: Turn | SyncTurn, *, first: bool) -> None:
    """Tell a turn about how long its prompt is, where nobody can know yet: at the first of an agent.

    Args:
        options: The request as the SDK makes it.
        turn: The turn that it is.
        first: Whether its agent has ended none before.
    """
    body = options.json_data
    if first and isinstance(body, Mapping):
        turn.expect(sum(_characters(body.get(part)) for part in _PROMPT_PARTS) / CHARACTERS_A_TOKEN)


def _characters(value: object) -> float:
    if isinstance(value, str):
        return 0 if value.startswith("data:") else len(value)  # what an image weighs its text does not tell
    if isinstance(value, Mapping):
        return sum(len(str(name)) + _characters(part) for name, part in value.items())
    if isinstance(value, list | tuple):
        return sum(map(_characters, value))
    return 0 if value is None else CHARACTERS_A_TOKEN  # a prompt may be a list of token ids


def unread_response(result: Any, turn: TurnOfRequest) -> Any:
    """Report the usage of an answer that is complete.

    Returns:
        The HTTP response that is still to be read, whose end is the end of the turn; None if there is none.
    """
    response = _http_response(result)
    if response is None:
        report_usage(turn, result)
    elif response.is_closed:
        report_usage(turn, _json(response))
    else:
        return response
    return None


def _session_header(options: Any, turn: TurnOfRequest) -> dict[str, Any]:
    headers = options.headers if isinstance(options.headers, Mapping) else {}
    return {} if names_session(headers) else {"headers": {**headers, SESSION_HEADER: turn.agent.session_id}}


def _asking_for_usage(options: Any) -> dict[str, Any]:
    """What to change in a request for a stream so that it tells its usage; nothing if the caller said either way."""
    body = options.json_data if isinstance(options.json_data, Mapping) else {}
    extra = options.extra_json if isinstance(options.extra_json, Mapping) else {}
    merged = {**body, **extra}
    if merged.get("stream") is not True or not _path(options).endswith(_USAGE_ON_REQUEST):
        return {}
    said = merged.get("stream_options") or {}
    if not isinstance(said, Mapping) or said.get("include_usage") is not None:
        return {}
    # vLLM ignores continuous_usage_stats where include_usage is not set (0.32, serve/utils/api_utils.py): left
    # in, it would now put usage into every chunk of a caller who never saw any.
    asking = {key: value for key, value in said.items() if key != "continuous_usage_stats"}
    return {"extra_json": {**extra, "stream_options": {**asking, "include_usage": True}}}


def _weighing(options: Any, turn: TurnOfRequest) -> dict[str, Any]:
    """Report an answer before the SDK parses it into the caller's model: the server served it, even if that fails."""
    parse = options.post_parser

    def parse_weighed(answer: Any) -> Any:
        report_usage(turn, answer)
        return parse(answer)

    return {"post_parser": parse_weighed}


def _http_response(result: Any) -> Any:
    """The HTTP response behind a raw response, a streaming response or a stream; None behind a model."""
    if isinstance(result, BaseModel):
        return None  # nearly all of them, and a model searches itself for long before it says that it has no such field
    holders = (result, getattr(result, "http_response", None), getattr(result, "response", None))
    return next((holder for holder in holders if hasattr(holder, "aiter_bytes")), None)


def _json(response: Any) -> Any:
    """The JSON of a response that was read; None if there is none, or it was closed unread."""
    try:
        return response.json()
    except (ValueError, RuntimeError):
        return None


# ---------------------------------------------------------------------- refusals


class noting_refusals:  # noqa: N801  read as `with noting_refusals(turn):`
    """Note on a turn every attempt made inside that a client of `watch_attempts` sees refused."""

    __slots__ = ("_seen", "_token", "_turn")

    def __init__(self, turn: TurnOfRequest) -> None:
        self._turn = turn
        self._seen: Any = None

    def __enter__(self) -> None:
        self._token = _ATTEMPTS.set(self)

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(ValueError):  # a coroutine that nobody finished is closed in anybody's context
            _ATTEMPTS.reset(self._token)

    def failed(self, response: Any) -> None:
        """An attempt was answered with an error; may be told twice of the same."""
        if response is not self._seen:
            self._seen = response
            if response.status_code in _REFUSED:
                self._turn.note_refusal()


_ATTEMPTS: ContextVar[noting_refusals | None] = ContextVar("concur_agents_attempts", default=None)


def watch_attempts(client: Any) -> None:
    """Look at each error that a client is answered with, also those that it retries by itself.

    An attempt that failed goes through `_should_retry` if any retries are left, and through
    `_make_status_error_from_response` if it is not retried (openai 2.2 and 3.54, _base_client.py, `request`).
    """
    should_retry = client._should_retry  # noqa: SLF001  no public hook sees an attempt
    make_error = client._make_status_error_from_response  # noqa: SLF001

    def look(response: Any) -> None:
        attempts = _ATTEMPTS.get()
        if attempts is not None:
            attempts.failed(response)

    def should_retry_watched(response: Any) -> Any:
        look(response)
        return should_retry(response)

    def make_error_watched(response: Any) -> Any:
        look(response)
        return make_error(response)

    vars(client).update(
        _should_retry=should_retry_watched,
        _make_status_error_from_response=make_error_watched,
    )
