"""The exact token ids of every turn: what is shared, what is kept, what is new, to the token."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from concur_agents.replay.trace import AgentTrace, TraceStep

# Within every vocabulary from a 256-byte one up, and clear of the special tokens at either end of it.
# 150 ids are enough: two random cache blocks of 16 tokens agree once in 150^16.
IDS = range(100, 250)


class Conversation:
    """One agent's prompts, made as its turns come.

    The opening is that of the agent's `prefix_group`; the first token after it differs between agents
    (as long as there are no more than ids), and the rest is random, seeded per agent. Outputs are fed back
    as they came. The same arguments make the same tokens in every process.

    Args:
        agent: The agent.
        number: Its place among the agents of the run.
        seed: Of the whole run.
        ids: The token ids to draw from, at least two.
    """

    def __init__(self, agent: AgentTrace, number: int, *, seed: int = 0, ids: range = IDS) -> None:
        self.agent = agent
        self._ids = ids
        self._rng = random.Random(f"{seed}/agent/{number}")  # noqa: S311  filler text, not a secret
        opening = random.Random(f"{seed}/prefix/{agent.prefix_group}")  # noqa: S311  as above
        shared = min(agent.shared_prefix_tokens, agent.steps[0].context_tokens)
        self._tokens = opening.choices(ids, k=shared)
        self._first_own: int | None = ids[number % len(ids)]
        self._began = False

    def prompt(self, step: TraceStep) -> list[int]:
        """The next prompt: exactly `step.context_tokens` ids.

        Of the prompt and output before, exactly the first `step.kept_tokens` come back (all, if there are
        fewer); the first id after them is another than before. The first prompt keeps the shared opening.
        """
        kept = step.kept_tokens if self._began else len(self._tokens)
        self._began = True
        dropped = self._tokens[kept:]
        del self._tokens[kept:]
        new = self._rng.choices(self._ids, k=step.context_tokens - len(self._tokens))
        if new and self._first_own is not None:
            new[0], self._first_own = self._first_own, None
        if new and dropped and new[0] == dropped[0]:
            new[0] = next(token for token in self._ids if token != dropped[0])
        self._tokens += new
        return list(self._tokens)

    def answered(self, output: Sequence[int]) -> None:
        """Append what the server generated for the last prompt."""
        self._tokens += output

    def filler(self, count: int) -> list[int]:
        """Ids in place of an output that the server did not return. The cache cannot know them."""
        return self._rng.choices(self._ids, k=count)
