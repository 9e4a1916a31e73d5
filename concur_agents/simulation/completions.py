"""`/v1/completions`: prompts as text or as token ids in, text out.

The shapes are those of vLLM 0.32 entrypoints/openai/completion (protocol.py, serving.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from concur_agents.simulation.filler import seed_of
from concur_agents.simulation.tokens import packed, unpacked
from concur_agents.simulation.wire import ApiError, malformed

if TYPE_CHECKING:
    from concur_agents.simulation.filler import Filler, Length, Output
    from concur_agents.simulation.tokens import Tokenizer

DEFAULT_MAX_TOKENS = 16
"""vLLM 0.32 `CompletionRequest.max_tokens`, as in the OpenAI API. [tokens]"""


class Completion:
    """A completion request, read and checked.

    Args:
        body: The request.
        tokenizer: For prompts of text.

    Attributes:
        prompts: The packed ids of each prompt.

    Raises:
        ApiError: If it makes no sense.
    """

    prefix = "cmpl-"
    whole = "text_completion"
    piece = "text_completion"

    def __init__(self, body: dict[str, Any], tokenizer: Tokenizer) -> None:
        prompt = body.get("prompt")
        if body.get("response_format") not in (None, {"type": "text"}):
            raise ApiError("`response_format` is supported for chat only.", "response_format")
        if prompt is None or prompt in ("", []):
            raise ApiError("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
        self.prompts = _packed_prompts(prompt, tokenizer)

    def output(self, filler: Filler, prompt: bytes, seed: object, length: Length) -> Output:
        """What is answered to one of the prompts.

        Args:
            filler: Writes it.
            prompt: The packed ids of the prompt.
            seed: The request's seed.
            length: How long it is to be.
        """
        return filler.words(seed_of(prompt, seed), length, spaced=True)

    # --- the answer ---------------------------------------------------------------------------------------------------

    def choice(self, index: int, prompt: bytes, output: Output, answer_id: str, *, ids: bool) -> dict[str, Any]:  # noqa: ARG002  as Chat's
        """The choice of an answer in one piece."""
        return {
            "index": index,
            "text": "".join(output.pieces),
            "logprobs": None,
            "finish_reason": output.finish_reason,
            "stop_reason": None,
            "token_ids": unpacked(output.ids) if ids else None,
            "prompt_logprobs": None,
            "prompt_token_ids": unpacked(prompt) if ids else None,
            "routed_experts": None,
        }

    def whole_extras(self, prompt: bytes, *, ids: bool) -> dict[str, Any]:  # noqa: ARG002  as Chat's
        """What an answer in one piece tells beside its choices."""
        return {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}

    def opening(self, prompt: bytes, *, ids: bool) -> dict[str, Any] | None:
        """A stream of text has no piece before its text."""

    def pieces(self, index: int, prompt: bytes, output: Output, answer_id: str, *, ids: bool) -> Deltas:  # noqa: ARG002  as Chat's
        """What makes the pieces of a stream."""
        return Deltas(index, prompt, output, ids=ids)


class Deltas:
    """The pieces of one streamed text.

    Args:
        index: Which of the prompts it answers.
        prompt: The packed ids of that.
        output: What it says.
        ids: Whether the pieces tell the ids of their tokens, and the first those of the prompt.
    """

    def __init__(self, index: int, prompt: bytes, output: Output, *, ids: bool) -> None:
        self._index = index
        self._output = output
        self._ids = unpacked(output.ids) if ids else None
        self._prompt_ids = unpacked(prompt) if ids else None

    def between(self, start: int, stop: int) -> dict[str, Any] | None:
        """The choice that tells the tokens from `start` to `stop`."""
        output = self._output
        return {
            "index": self._index,
            "text": "".join(output.pieces[start:stop]),
            "logprobs": None,
            "finish_reason": output.finish_reason if stop == len(output.pieces) else None,
            "stop_reason": None,
            "prompt_token_ids": None if start else self._prompt_ids,
            "token_ids": None if self._ids is None else self._ids[start:stop],
        }


def _packed_prompts(prompt: Any, tokenizer: Tokenizer) -> list[bytes]:
    if isinstance(prompt, str):
        return [tokenizer.encode(prompt)]
    if isinstance(prompt, list):
        if isinstance(prompt[0], int):
            return [_packed_ids(prompt)]
        return [tokenizer.encode(one) if isinstance(one, str) else _packed_ids(one) for one in prompt]
    raise malformed("1 validation error: prompt: a string, a list of strings or a list of token ids", "body.prompt")


def _packed_ids(ids: Any) -> bytes:
    if not isinstance(ids, list):
        raise malformed("1 validation error: prompt: Input should be a valid list", "body.prompt")
    try:
        return packed(ids)
    except TypeError:
        raise malformed("1 validation error: prompt: token ids must be integers", "body.prompt") from None
    except OverflowError:
        raise ApiError("A token id of the prompt is out of vocabulary.", "prompt") from None
