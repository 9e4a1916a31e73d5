"""Prompts by content instead of by token ids: what an agent says costs a few tuples, however long it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from concur_agents.simulation import Prompt

if TYPE_CHECKING:
    from collections.abc import Hashable

    from concur_agents.replay.trace import AgentTrace, TraceStep
    from concur_agents.simulation import Request


class SegmentConversation:
    """One agent's prompts, as `prompt.Conversation` makes them, for an engine in the same process.

    Args:
        agent: The agent.
        number: Its place among the agents of the run: tells its tokens from the others'.
    """

    def __init__(self, agent: AgentTrace, number: int) -> None:
        self._number = number
        self._new = 0
        shared = min(agent.shared_prefix_tokens, agent.steps[0].context_tokens)
        self._tokens = Prompt([(("prefix", agent.prefix_group), shared)])
        self._began = False

    def prompt(self, step: TraceStep) -> Prompt:
        """The next prompt: of the prompt and output before, the first `step.kept_tokens` come back."""
        if self._began:
            self._tokens = _beginning(self._tokens, step.kept_tokens)
        self._began = True
        self._new += 1
        identity: Hashable = (self._number, self._new)
        self._tokens = self._tokens.then((identity, step.context_tokens - self._tokens.tokens))
        return self._tokens

    def answered(self, request: Request) -> None:
        """Append what the engine generated for the last prompt."""
        self._tokens = self._tokens.then((request.output_id, request.generated))


def _beginning(prompt: Prompt, tokens: int) -> Prompt:
    """The first `tokens` of a prompt; all of it, if it has fewer."""
    if tokens >= prompt.tokens:
        return prompt
    kept = []
    for identity, length in prompt.segments:
        if tokens <= 0:
            break
        kept.append((identity, min(length, tokens)))
        tokens -= length
    return Prompt(kept)
