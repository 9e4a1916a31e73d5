"""What the engine answers: filler, which says that it is, and as many tokens of it as were asked for.

All of it is drawn from the prompt: the same prompt gets the same answer.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from concur_agents.simulation.schema import value_for
from concur_agents.simulation.tokens import ID_BYTES, Tokenizer, tool_call_text

if TYPE_CHECKING:
    from collections.abc import Sequence

MEDIAN_TOKENS = 120.0
"""Median length of an answer when nothing fixes it. [tokens]"""
SPREAD = 0.8
"""Standard deviation of the logarithm of that length: a tenth of the answers is over 335 tokens, a tenth under 43."""

_OPENING = ["Filler", " text", " from", " a", " test", " engine", ",", " not", " a", " model", ":"]
# 256 words, one for each value of a byte, each a token with the space before it.
_WORDS = """
about above across act add after again age ago agree air all allow alone along also always am among amount an and
angle animal answer any appear apple are area arm as ask at away baby back ball bank base basic bat be bear beat
beauty bed been before began behind bell best better big bird bit black blood blow blue board boat body bone book both
bottom bought box boy branch bread break bright bring broad brown build burn busy but buy by call came camp can car
card care carry case cat catch cause cell cent center chair chance change charge chart check chief child choose circle
city claim class clean clear climb clock close cloud coast coat cold collar color column come common cook cool copy
corn corner cost cotton could count course cover cow create crop cross crowd cry cut dance danger dark day dead deal
dear death decide deep degree depend desert design did die differ direct do doctor does dog dollar done door double
down draw dream dress drink drive drop dry duck during each ear early earth ease east eat edge effect egg eight either
else end enemy energy engine enough enter equal even event ever every exact excite expect eye face fact fair fall
family famous far farm fast fat father favor fear feed feel feet fell felt few field fight figure fill final find fine
finger finish fire first fish fit five flat floor flow flower fly follow food foot for force forest form found four
free
"""
_SPACED = [f" {word}" for word in _WORDS.split()]


@dataclass(slots=True)
class ToolCall:
    """A tool call in an output.

    Attributes:
        name: The function.
        start: Where its arguments begin in the text. [characters]
        end: Where they end. [characters]
    """

    name: str
    start: int
    end: int


@dataclass(slots=True)
class Output:
    """What an answer says, token by token.

    Attributes:
        pieces: The text of each token.
        ids: Their packed ids.
        finish_reason: `"stop"`, or `"length"` if it was cut or has the length that was asked for.
        said: Length of what is told as content: all of it, or what goes before a tool call. [characters]
        call: The tool call in it.
    """

    pieces: list[str]
    ids: bytes
    finish_reason: str
    said: int
    call: ToolCall | None = None


@dataclass(frozen=True, slots=True)
class Length:
    """How long an answer may and must be.

    Attributes:
        most: At most this many tokens, at least 1; there it is cut. [tokens]
        least: At least this many, at most `most`. [tokens]
    """

    most: int
    least: int = 1


class Filler:
    """Writes answers.

    Args:
        tokenizer: Makes their tokens.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        opening = tokenizer.ids(_OPENING)
        words = tokenizer.ids(_SPACED)
        self._opening_ids = [opening[at : at + ID_BYTES] for at in range(0, len(opening), ID_BYTES)]
        self._word_ids = [words[at : at + ID_BYTES] for at in range(0, len(words), ID_BYTES)]

    def words(self, seed: bytes, length: Length, *, spaced: bool = False) -> Output:
        """Plain text.

        Args:
            seed: What to draw from, see `seed_of`.
            length: How long.
            spaced: Begin with a space, for text that goes on from other text.
        """
        wanted = max(length.least, drawn_length(seed))
        cut = wanted > length.most or length.least == length.most
        pieces, ids = self._draw(seed, min(wanted, length.most))
        if spaced:
            pieces[0] = f" {pieces[0]}"
            ids = self._tokenizer.ids(pieces[:1]) + ids[ID_BYTES:]
        return Output(pieces, ids, "length" if cut else "stop", sum(map(len, pieces)))

    def text(self, text: str, length: Length) -> Output:
        """A given text, cut where the length says."""
        return self._cut(self._tokenizer.pieces(text), length, len(text))

    def tool_call(self, seed: bytes, function: dict[str, Any], length: Length) -> Output:
        """A call of a function, with words before it if the answer must be longer than the call is.

        Args:
            seed: What to draw from.
            function: Its `name` and `parameters`, as in the OpenAI API.
            length: How long; a call that is longer is cut, and is then no whole one.

        Raises:
            SchemaError: If no arguments can be made for its parameters.
        """
        name = function["name"]
        arguments = json.dumps(value_for(_parameters(function), _random(seed)))
        written = tool_call_text(name, arguments)
        pieces = self._tokenizer.pieces(written)
        missing = length.least - len(pieces)
        words: list[str] = []
        if missing > 1:
            words = self._draw(seed, missing - 1)[0]
            pieces = [*words, *self._tokenizer.pieces(f"\n{written}")]
        elif missing == 1:
            pieces.append("\n")
        said = sum(map(len, words))
        start = said + bool(words) + len(tool_call_text(name, "")) - len("}\n</tool_call>")
        return self._cut(pieces, length, said, ToolCall(name, start, start + len(arguments)))

    def json_text(self, seed: bytes, schema: Any, length: Length) -> Output:
        """JSON that a schema allows.

        Raises:
            SchemaError: If none can be made.
        """
        return self.text(json.dumps(value_for(schema, _random(seed))), length)

    def _draw(self, seed: bytes, tokens: int) -> tuple[list[str], bytes]:
        pieces, ids = _OPENING[:tokens], self._opening_ids[:tokens]
        more = hashlib.shake_128(seed).digest(max(0, tokens - len(pieces)))
        pieces += map(_SPACED.__getitem__, more)
        ids += map(self._word_ids.__getitem__, more)
        return pieces, b"".join(ids)

    def _cut(self, pieces: list[str], length: Length, said: int, call: ToolCall | None = None) -> Output:
        cut = len(pieces) > length.most or len(pieces) == length.most == length.least
        pieces = pieces[: length.most]
        return Output(pieces, self._tokenizer.ids(pieces), "length" if cut else "stop", said, call)


def _parameters(function: dict[str, Any]) -> Any:
    # A function without parameters takes an empty object (OpenAI API reference, function definitions).
    parameters = function.get("parameters")
    return {"type": "object"} if parameters is None else parameters


def seed_of(prompt: bytes, seed: object = None) -> bytes:
    """What an answer is drawn from: the prompt, and the request's own seed."""
    digest = hashlib.blake2b(prompt, digest_size=16)
    if seed is not None:
        digest.update(repr(seed).encode())
    return digest.digest()


def drawn_length(seed: bytes) -> int:
    """Length of an answer that nothing fixes: lognormal, at least 1. [tokens]"""
    return max(1, round(_random(seed).lognormvariate(math.log(MEDIAN_TOKENS), SPREAD)))


def choose(seed: bytes, choices: Sequence[Any]) -> Any:
    """One of several, drawn."""
    return choices[int.from_bytes(seed[:8], "little") % len(choices)]


def _random(seed: bytes) -> random.Random:
    return random.Random(int.from_bytes(seed, "little"))  # noqa: S311  filler, not a secret
