"""How far a run is, for who shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        controller: Whose run it is.
        waiting_for_server: Whether it has not begun, because the server still serves others.
        elapsed_s: Since it began. [s]
        agents_done: Agents that are over, the failed ones included.
        agents: All of them.
        turns_done: Calls that are over.
        turns: All of them.
        active: Agents with a place.
        paused: Agents that gave theirs up.
        queued: Agents that never had one yet.
        working_set_tokens: KV tokens of the active agents, as the gate knows them.
        capacity_tokens: KV tokens that the server holds; None if unknown.
        hit_rate: Of the last moments; None without evidence.
        output_tokens_per_s: Since the run began.
    """

    controller: str
    waiting_for_server: bool
    elapsed_s: float
    agents_done: int
    agents: int
    turns_done: int
    turns: int
    active: int
    paused: int
    queued: int
    working_set_tokens: float
    capacity_tokens: float | None
    hit_rate: float | None
    output_tokens_per_s: float
