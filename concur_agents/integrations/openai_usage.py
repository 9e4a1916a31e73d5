"""What a server says of its tokens, in Chat Completions, Completions and Responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concur_agents.agent import Turn


def report_usage(turn: Turn, answer: object) -> bool:
    """Report the usage in an answer to its turn; without a usable one the turn stays unweighed.

    Chat Completions and Completions say `prompt_tokens`, `completion_tokens` and
    `prompt_tokens_details.cached_tokens`; Responses say `input_tokens`, `output_tokens` and
    `input_tokens_details.cached_tokens` (vLLM 0.32, entrypoints/serve/engine/protocol.py and
    entrypoints/openai/responses/protocol.py). All in tokens. vLLM fills the details only with
    `--enable-prompt-tokens-details`.

    Args:
        turn: The turn that got the answer.
        answer: The answer, as JSON or as the SDK's model. Neither was validated, so nothing in it is trusted.

    Returns:
        Whether there was a usage to report.
    """
    usage = _field(answer, "usage")
    prompt = _count(usage, "prompt_tokens", "input_tokens")
    output = _count(usage, "completion_tokens", "output_tokens")
    if prompt is None or output is None:
        return False
    details = _field(usage, "prompt_tokens_details") or _field(usage, "input_tokens_details")
    cached = _count(details, "cached_tokens")
    if cached is not None and cached > prompt:
        cached = None
    turn.report(prompt_tokens=prompt, completion_tokens=output, cached_tokens=cached)
    return True


def _field(holder: object, name: str) -> object:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _count(holder: object, *names: str) -> int | None:
    """The first of the fields that is a number of tokens."""
    values = (_field(holder, name) for name in names)
    return next((value for value in values if type(value) is int and value >= 0), None)
