"""The face of `ConcurGate` that integrations use, with one agent and room for everybody."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

Usage = tuple[int, int, int | None]


@dataclass
class StandInAgent:
    name: str = "stand-in"
    session_id: str = "session-of-the-stand-in"
    kind: str = "default"
    turns: int = 0
    finished: bool = False


@dataclass
class StandInTurn:
    agent: StandInAgent
    reported: Usage | None = None
    end_calls: int = 0
    ended_in: int | None = None
    refusals: int = 0
    expected: float | None = None

    def expect(self, prompt_tokens: float) -> None:
        self.expected = prompt_tokens

    def report(self, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int | None = None) -> None:
        if min(prompt_tokens, completion_tokens, cached_tokens or 0) < 0:
            raise ValueError("token counts cannot be negative")
        if self.end_calls:
            return  # as at the real gate: what comes after the end is not looked at
        self.reported = (prompt_tokens, completion_tokens, cached_tokens)

    def note_refusal(self) -> None:
        assert not self.end_calls
        self.refusals += 1

    def end(self) -> None:
        self.end_calls += 1
        self.ended_in = threading.get_ident()


class StandInGate:
    """Writes down its turns. Clear `room` to let turns wait where they begin."""

    def __init__(self) -> None:
        self.agent = StandInAgent()
        self.turns: list[StandInTurn] = []
        self.room = asyncio.Event()
        self.room.set()

    async def begin_turn(self) -> StandInTurn:
        await asyncio.sleep(0)
        await self.room.wait()
        turn = StandInTurn(self.agent)
        self.turns.append(turn)
        return turn

    @property
    def turn(self) -> StandInTurn:
        """The only turn there was."""
        (turn,) = self.turns
        return turn

    @property
    def ended(self) -> int:
        return sum(turn.end_calls for turn in self.turns)
