"""What a server says of its tokens, in Chat Completions, Completions and Responses."""

from __future__ import annotations

from typing import Protocol


class OwnerOfTurn(Protocol):
    """What a request needs of the agent whose turn it is."""

    @property
    def session_id(self) -> str:
        """Sent as `X-Session-ID`."""


class TurnOfRequest(Protocol):
    """What a request needs of its turn, be it `Turn` or `SyncTurn`."""

    @property
    def agent(self) -> OwnerOfTurn:
        """Whose turn it is."""

    def report(self, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int | None = None) -> None:
        """Tell what the server said of the call."""

    def note_refusal(self) -> None:
        """Tell that the server refused an attempt."""

    def end(self) -> None:
        """End the turn; may be called again."""


_CHAT = ("prompt_tokens", "completion_tokens", "prompt_tokens_details")
_RESPONSES = ("input_tokens", "output_tokens", "input_tokens_details")


def usage_of(answer: object) -> tuple[int, int, int | None] | None:
    """The prompt, output and cached tokens that an answer tells; None without a usable usage.

    Chat Completions and Completions say `prompt_tokens`, `completion_tokens` and
    `prompt_tokens_details.cached_tokens`; Responses say `input_tokens`, `output_tokens` and
    `input_tokens_details.cached_tokens` (vLLM 0.32, entrypoints/serve/engine/protocol.py and
    entrypoints/openai/responses/protocol.py). All in tokens. vLLM fills the details only with
    `--enable-prompt-tokens-details`.

    Args:
        answer: The answer, as JSON or as the SDK's model. Neither was validated, so nothing in it is trusted.
    """
    usage = _field(answer, "usage")
    names = _CHAT if _field(usage, "prompt_tokens") is not None else _RESPONSES
    prompt, output = _count(usage, names[0]), _count(usage, names[1])
    if prompt is None or output is None:
        return None
    cached = _count(_field(usage, names[2]), "cached_tokens")
    if cached is not None and cached > prompt:
        cached = None
    return prompt, output, cached


def report_usage(turn: TurnOfRequest, answer: object) -> bool:
    """Report the usage in an answer to its turn, see `usage_of`; without one the turn stays unweighed.

    Args:
        turn: The turn that got the answer.
        answer: The answer.

    Returns:
        Whether there was a usage to report.
    """
    usage = usage_of(answer)
    if usage is None:
        return False
    prompt, output, cached = usage
    turn.report(prompt_tokens=prompt, completion_tokens=output, cached_tokens=cached)
    return True


def _field(holder: object, name: str) -> object:
    return holder.get(name) if isinstance(holder, dict) else getattr(holder, name, None)


def _count(holder: object, name: str) -> int | None:
    """A field if it is a number of tokens."""
    value = _field(holder, name)
    return value if type(value) is int and value >= 0 else None
