"""What goes over the wire, whatever carries it: answers, errors in vLLM's shapes, and checks of what comes in.

The shapes are those of vLLM 0.32 entrypoints/serve/engine/protocol.py and entrypoints/serve/exception_handling.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from concur_agents.errors import ConcurError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from concur_agents.simulation.request import Request

JSON_TYPE = "application/json"
STREAM_TYPE = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"


class Body(Protocol):
    """A body that comes piece by piece; closing it early gives up what makes it."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces."""

    async def aclose(self) -> None:
        """Give up the rest; may be called at any time, and again."""


class Answer:
    """What a request gets.

    Args:
        body: All of it, or a stream of pieces: whoever takes the answer reads it to its end or closes it.
        status: HTTP status.
        content_type: What the body is.
        headers: More headers.
    """

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self,
        body: bytes | Body,
        *,
        status: int = 200,
        content_type: str = JSON_TYPE,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.body = body
        self.status = status
        self.content_type = content_type
        self.headers = headers or {}

    @classmethod
    def of(cls, value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
        """An answer of JSON."""
        return cls(to_json(value), status=status, headers=headers)


class ApiError(ConcurError):
    """A request that is refused.

    Args:
        message: What is wrong and what to do.
        param: The field that is wrong.
        status: HTTP status.
        kind: The error's type.
    """

    def __init__(
        self,
        message: str,
        param: str | None = None,
        *,
        status: HTTPStatus = HTTPStatus.BAD_REQUEST,
        kind: str = "BadRequestError",
    ) -> None:
        super().__init__(message)
        self.param = param
        self.status = status
        self.kind = kind

    def answer(self) -> Answer:
        """The error as vLLM's `ErrorResponse`."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": int(self.status)}
        return Answer.of({"error": error}, status=self.status)


def malformed(message: str, param: str | None) -> ApiError:
    """A body that is not of the right form: vLLM's type for it is the phrase of its status (handlers/validation.py)."""
    return ApiError(message, param, kind=HTTPStatus.BAD_REQUEST.phrase)


def to_json(value: Any) -> bytes:
    """Compact JSON in UTF-8; text that is not valid Unicode is escaped."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def event(value: Any) -> bytes:
    """A server-sent event of JSON."""
    return b"data: " + to_json(value) + b"\n\n"


def read_json(body: bytes) -> dict[str, Any]:
    """The object in a request's body.

    Raises:
        ApiError: If there is none.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        position = getattr(error, "pos", 0)
        raise malformed(f"1 validation error: JSON decode error: {error}", f"body.{position}") from None
    if not isinstance(value, dict):
        raise malformed("1 validation error: Input should be a valid dictionary", "body")
    return value


# --- fields -----------------------------------------------------------------------------------------------------------


def integer(body: dict[str, Any], name: str, default: int | None = None) -> int | None:
    """An integer, or the default where it is missing or null.

    Raises:
        ApiError: If it is something else.
    """
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise malformed(f"1 validation error: {name}: Input should be a valid integer", f"body.{name}")
    return value


def flag(body: dict[str, Any], name: str) -> bool:
    """True or false, or false where it is missing or null.

    Raises:
        ApiError: If it is something else.
    """
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise malformed(f"1 validation error: {name}: Input should be a valid boolean", f"body.{name}")
    return value


def string(body: dict[str, Any], name: str) -> str | None:
    """A string, or None where it is missing or null.

    Raises:
        ApiError: If it is something else.
    """
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise malformed(f"1 validation error: {name}: Input should be a valid string", f"body.{name}")
    return value


# --- usage ------------------------------------------------------------------------------------------------------------


def usage(requests: list[Request], *, details: bool = True, generated: int | None = None) -> dict[str, Any]:
    """What a request used, as with `--enable-prompt-tokens-details`.

    Args:
        requests: One for each prompt. As in vLLM, the cached tokens told are those of the last.
        details: Whether to tell them.
        generated: Output tokens; all of the requests' if not given. [tokens]
    """
    prompt = sum(request.prompt_tokens for request in requests)
    output = sum(request.max_output_tokens for request in requests) if generated is None else generated
    used: dict[str, Any] = {"prompt_tokens": prompt, "total_tokens": prompt + output, "completion_tokens": output}
    if details:
        used["prompt_tokens_details"] = {"cached_tokens": requests[-1].cached_tokens}
    return used
