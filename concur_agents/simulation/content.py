"""What a prompt says, without saying it: runs of named content instead of token ids.

vLLM identifies block *i* of a request by a hash chained over all tokens up to its end
(vLLM 0.32 v1/core/kv_cache_utils.py, `get_request_block_hasher`). Here token *j* of a segment is the pair
(content id, *j*), so two prompts agree exactly as far as their segments do, and a context of 50,000 tokens costs a
few tuples.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import repeat
from operator import index
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

Segment = tuple["Hashable", int]
"""A content id, and how many tokens of that content, from its first one. [tokens]"""


class Prompt:
    """An immutable sequence of segments.

    The same id always means the same content from its first token, so a segment may be cut short: (`"answer"`, 60)
    is the first 60 tokens of (`"answer"`, 150). Segments of no tokens are dropped.

    Args:
        segments: Pairs of content id (anything hashable) and length. [tokens]

    Attributes:
        segments: The segments kept.
        ends: Where each segment ends. [tokens from the start]
        tokens: Length of the whole. [tokens]

    Raises:
        ValueError: A length is negative.
        TypeError: A length is no integer.
    """

    __slots__ = ("ends", "segments", "tokens")

    def __init__(self, segments: Iterable[Segment] = ()) -> None:
        self.segments: tuple[Segment, ...] = ()
        self.ends: tuple[int, ...] = ()
        self.tokens = 0
        self._add(segments)

    @classmethod
    def of_blocks(cls, names: Sequence[Hashable], tokens: int) -> Prompt:
        """A prompt of segments of one length: the same as by the constructor, several times faster.

        Args:
            names: Content ids.
            tokens: Length of each. [tokens, at least 1]
        """
        prompt = cls.__new__(cls)
        prompt.tokens = len(names) * tokens
        prompt.segments = tuple(zip(names, repeat(tokens)))
        prompt.ends = tuple(range(tokens, prompt.tokens + 1, tokens))
        return prompt

    def then(self, *segments: Segment) -> Prompt:
        """This prompt with segments added at its end; the work is in the added ones only.

        Args:
            segments: As for the constructor.

        Returns:
            A new prompt.
        """
        longer = Prompt.__new__(Prompt)
        longer.segments = self.segments
        longer.ends = self.ends
        longer.tokens = self.tokens
        longer._add(segments)  # noqa: SLF001 - it is a Prompt, and nobody has seen it yet
        return longer

    def _add(self, segments: Iterable[Segment]) -> None:
        kept: list[Segment] = []
        ends: list[int] = []
        total = self.tokens
        for identity, length in segments:
            tokens = index(length)
            if tokens < 0:
                raise ValueError(f"segment {identity!r} has {tokens} tokens: a length is 0 or more")
            if tokens:
                total += tokens
                kept.append((identity, tokens))
                ends.append(total)
        self.segments = (*self.segments, *kept)
        self.ends = (*self.ends, *ends)
        self.tokens = total

    def common_tokens(self, other: Prompt, agreeing: int = 0) -> int:
        """How many tokens both prompts begin with.

        Args:
            other: The prompt to compare with.
            agreeing: Segments at the start that are known to be equal, not compared again.

        Returns:
            Length of the longest common beginning. [tokens]
        """
        at = agreeing
        for ours, theirs in zip(self.segments[agreeing:], other.segments[agreeing:], strict=False):
            if ours != theirs:
                partly = min(ours[1], theirs[1]) if ours[0] == theirs[0] else 0
                return (self.ends[at - 1] if at else 0) + partly
            at += 1
        return self.ends[at - 1] if at else 0

    def key(self, start: int, stop: int) -> tuple[Hashable, ...]:
        """Where the tokens from `start` to `stop` are, and what tells them from others after the same beginning.

        Args:
            start: First token, at most `stop` − 1. [tokens from the start]
            stop: One past the last token, at most `tokens`. [tokens from the start]

        Returns:
            Equal for two prompts that agree up to `start` if and only if they agree up to `stop`.
        """
        ends = self.ends
        at = bisect_right(ends, start)
        into = start - ends[at - 1] if at else start
        if ends[at] >= stop:
            return (start, into, self.segments[at][0])
        parts: list[Hashable] = [start, into]
        while ends[at] < stop:
            parts += (self.segments[at][0], ends[at] - start)
            at += 1
        parts.append(self.segments[at][0])
        return tuple(parts)

    def __repr__(self) -> str:
        return f"<Prompt of {self.tokens} tokens in {len(self.segments)} segments>"
