"""What LangChain's messages and results say of the tokens of a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .openai_usage import report_usage

if TYPE_CHECKING:
    from .openai_usage import TurnOfRequest


def report_messages(turn: TurnOfRequest, messages: object) -> None:
    """Report the usage of the last of these messages that tells any; without one the turn stays unweighed.

    Args:
        turn: The turn that got them.
        messages: Messages of which some may have `usage_metadata` (langchain-core 1.7 messages/ai.py).
    """
    last = None
    for message in messages if isinstance(messages, Iterable) else ():
        last = getattr(message, "usage_metadata", None) or last
    if not isinstance(last, Mapping):
        return
    details = last.get("input_token_details")
    cached = details.get("cache_read") if isinstance(details, Mapping) else None
    report_usage(turn, {"usage": {**last, "input_tokens_details": {"cached_tokens": cached}}})


def report_result(turn: TurnOfRequest, result: Any) -> None:
    """Report the usage of an `LLMResult`: of its message, or, of a model that gives plain text, of its provider."""
    generations = [one for batch in getattr(result, "generations", ()) for one in batch]
    provider = getattr(result, "llm_output", None)
    if isinstance(provider, Mapping):
        report_usage(turn, {"usage": provider.get("token_usage")})
    report_messages(turn, [getattr(one, "message", None) for one in generations])
