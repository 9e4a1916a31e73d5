"""What is learned from the agents of one kind, and the gate's running totals. Pure accounting."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .life_table import LifeTable

MEMORY_TURNS = 64
"""Samples over which a learned mean forgets: enough to smooth one odd turn, short enough to follow a change."""

MEMORY_FIRST_TURNS = 16
"""First turns that tell the shared prefix. Had it been evicted, they forget that after so many more."""


@dataclass(slots=True)
class Mean:
    """A mean that starts exact and forgets after `MEMORY_TURNS` samples."""

    value: float = 0.0
    count: int = 0

    def learn(self, sample: float) -> None:
        """Take one sample in."""
        self.count += 1
        self.value += (sample - self.value) / min(self.count, MEMORY_TURNS)


@dataclass(slots=True, eq=False)
class Kind:
    """Agents that share what is learned.

    Attributes:
        name: What the user calls it.
        given_prefix: The shared prefix as the user gave it; None: to be learned. [tokens]
        first_prompt: Prompt of an agent's first turn, as the server counted it. [tokens]
        announced_prompt: The same, as agents announced it before the server did. [tokens]
        growth: Tokens by which the prompt grows from one turn to the next. [tokens a turn]
        returned: Share of a turn's output that returns in the next prompt, as seen in the cache, 0 to 1.
        first_turns: First turns that have ended, reported or not.
        first_cached: `cached_tokens` of the last first turns. [tokens]
        learned_prefix: The smallest of them but one; 0 while unknown. [tokens]
        lives: How long its agents live.
        active: Places of this kind that are active.
        cold: Of those, the places whose first turn has not ended.
    """

    name: str
    given_prefix: int | None = None
    first_prompt: Mean = field(default_factory=Mean)
    announced_prompt: Mean = field(default_factory=Mean)
    growth: Mean = field(default_factory=Mean)
    returned: Mean = field(default_factory=Mean)
    first_turns: int = 0
    first_cached: deque[int] = field(default_factory=lambda: deque(maxlen=MEMORY_FIRST_TURNS))
    learned_prefix: int = 0
    lives: LifeTable = field(default_factory=LifeTable)
    active: int = 0
    cold: int = 0

    @property
    def shared_prefix(self) -> int:
        """The opening that all agents of the kind share, billed once; 0 while unknown. [tokens]"""
        if self.given_prefix is not None:
            return self.given_prefix
        return self.learned_prefix

    @property
    def expected_tokens(self) -> float:
        """Footprint of an agent before its first turn; 0 while unknown. [KV tokens]"""
        return self.first_prompt.value if self.first_prompt.count else self.announced_prompt.value

    def learn_first_turn(self, prompt_tokens: int, cached_tokens: int | None) -> None:
        """Learn from an agent's first turn that reported its tokens."""
        self.first_prompt.learn(prompt_tokens)
        if cached_tokens is not None:
            self.first_cached.append(cached_tokens)
            # Not the smallest: whoever was served first found nothing, and need not be the first to report.
            self.learned_prefix = sorted(self.first_cached)[1] if len(self.first_cached) > 1 else 0


@dataclass(slots=True)
class Totals:
    """Running totals over all agents since the gate was made.

    Attributes:
        turns: Turns ended.
        prompt_tokens: Prompt tokens reported.
        output_tokens: Output tokens reported.
        cached_tokens: Prompt tokens that the server said it had cached.
        kept_tokens: Prompt tokens that agents that had kept their place should have found in the cache.
        reusable_tokens: Prompt tokens that the cache could have served.
        recomputed_tokens: Of those, the tokens that were read again all the same.
        lost_tokens: Of those, the tokens of agents that had kept their place: what the cache could not hold.
        refusals: Calls that the server refused because of its load (429 or 503), each attempt.
        finished: Agents that are over.
        pauses: Times that an agent was paused.
        max_wait_s: Longest wait for a place that has ended. [s]
    """

    turns: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    kept_tokens: int = 0
    reusable_tokens: int = 0
    recomputed_tokens: int = 0
    lost_tokens: int = 0
    refusals: int = 0
    finished: int = 0
    pauses: int = 0
    max_wait_s: float = 0.0
