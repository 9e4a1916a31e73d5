"""What chat and completion requests have in common: the fields that say how long, how often and in which way."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from concur_agents.simulation.filler import Length
from concur_agents.simulation.wire import ApiError, flag, integer, malformed, string

_CONTENT_OFF = ("logprobs", "echo", "use_beam_search", "prompt_logprobs", "suffix")
"""Fields that would change what the answer says in a way that filler cannot."""


@dataclass(frozen=True, slots=True)
class Options:
    """The common fields of a request.

    Attributes:
        stream: Whether the answer comes piece by piece.
        include_usage: Whether a stream ends with its usage.
        continuous_usage: Whether every piece of it tells the usage so far.
        max_tokens: Longest output asked for; None: all that fits. [tokens]
        max_tokens_param: The field that said so.
        min_tokens: Shortest output. [tokens]
        ignore_eos: Whether the output goes on until it is cut.
        seed: Draws another answer.
        cache_salt: Splits the prefix cache.
        return_token_ids: Whether the answer tells the ids of its tokens and of the prompt's.
        request_id: The id that the answer is to have.
    """

    stream: bool
    include_usage: bool
    continuous_usage: bool
    max_tokens: int | None
    max_tokens_param: str
    min_tokens: int
    ignore_eos: bool
    seed: int | None
    cache_salt: str | None
    return_token_ids: bool
    request_id: str | None

    def length(self, prompt_tokens: int, max_model_len: int) -> Length:
        """How long the answer to a prompt is to be.

        An output that would pass the context is cut there (vLLM 0.32 entrypoints/serve/utils/api_utils.py
        `get_max_tokens`); a prompt that does is refused (renderers/params.py `TokenizeParams`).

        Raises:
            ApiError: If the prompt or what is asked for is too long.
        """
        asked = self.max_tokens
        if asked is not None and asked > max_model_len:
            raise ApiError(
                f"{self.max_tokens_param}={asked} cannot be greater than max_model_len={max_model_len}. "
                "Please request fewer output tokens.",
                self.max_tokens_param,
            )
        if not prompt_tokens:
            raise ApiError("The decoder prompt cannot be empty", "prompt")
        if prompt_tokens > max_model_len:
            raise ApiError(
                f"This model's maximum context length is {max_model_len} tokens. However, your prompt contains "
                f"{prompt_tokens} input tokens, which exceeds this limit even without any output tokens. "
                "Please reduce the length of the input prompt.",
                "input_tokens",
            )
        room = max_model_len - prompt_tokens
        most = room if asked is None else min(asked, room)
        if most < 1:
            raise ApiError(f"max_tokens must be at least 1, got {most}.", "max_tokens")
        if self.min_tokens > most:
            raise ApiError(
                f"min_tokens must be less than or equal to max_tokens={most}, got {self.min_tokens}.", "min_tokens"
            )
        return Length(most=most, least=most if self.ignore_eos else max(1, self.min_tokens))


def read_options(body: dict[str, Any], *, default_max_tokens: int | None) -> Options:
    """Read the common fields.

    Args:
        body: The request.
        default_max_tokens: Longest output where the request does not say. [tokens]

    Raises:
        ApiError: If one makes no sense, or asks for what this engine has not.
    """
    for name in _CONTENT_OFF:
        if body.get(name) not in (None, False, "", 0):
            raise ApiError(f"`{name}` is not supported: the answers of this engine are filler. Leave it out.", name)
    count = integer(body, "n", 1)
    if count != 1:
        raise ApiError(f"n must be 1 here, got {count}: ask again for more answers.", "n")
    if integer(body, "priority", 0):
        raise ApiError(f"Got priority {body['priority']} but Priority scheduling is not enabled.", "priority")
    completion = integer(body, "max_completion_tokens")
    max_tokens = completion if completion is not None else integer(body, "max_tokens", default_max_tokens)
    if max_tokens is not None and max_tokens < 1:
        raise ApiError(f"max_tokens must be at least 1, got {max_tokens}.", "max_tokens")
    min_tokens = integer(body, "min_tokens", 0) or 0
    if min_tokens < 0:
        raise ApiError(f"min_tokens must be greater than or equal to 0, got {min_tokens}.", "min_tokens")
    salt = body.get("cache_salt")
    if salt is not None and not (isinstance(salt, str) and salt):
        raise ApiError("Parameter 'cache_salt' must be a non-empty string if provided.", "cache_salt")
    stream = flag(body, "stream")
    told = body.get("stream_options")
    if told and not stream:
        raise ApiError("Stream options can only be defined when `stream=True`.", "stream_options")
    if told is not None and not isinstance(told, dict):
        raise malformed("1 validation error: stream_options: Input should be a valid dictionary", "body.stream_options")
    stream_options = told or {}
    include_usage = flag(stream_options, "include_usage")
    return Options(
        stream=stream,
        include_usage=include_usage,
        continuous_usage=include_usage and flag(stream_options, "continuous_usage_stats"),
        max_tokens=max_tokens,
        max_tokens_param="max_tokens" if completion is None else "max_completion_tokens",
        min_tokens=min_tokens,
        ignore_eos=flag(body, "ignore_eos"),
        seed=integer(body, "seed"),
        cache_salt=salt,
        return_token_ids=flag(body, "return_token_ids"),
        request_id=string(body, "request_id"),
    )


def check_model(body: dict[str, Any], served: str) -> None:
    """See that the model is the one that is served; a request without one means that one.

    Raises:
        ApiError: If it is another (vLLM 0.32 entrypoints/serve/engine/serving.py `_check_model`).
    """
    asked = string(body, "model")
    if asked and asked != served:
        raise ApiError(
            f"The model `{asked}` does not exist. Valid aliases: {served}.",
            "model",
            status=HTTPStatus.NOT_FOUND,
            kind="NotFoundError",
        )
