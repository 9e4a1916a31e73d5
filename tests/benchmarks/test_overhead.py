"""The measurements of the gate's own cost run to their ends."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # its scripts import each other by their plain names
overhead = pytest.importorskip("overhead")
integrations = pytest.importorskip("integrations")


@pytest.mark.parametrize("measure", [overhead._resize_and_turn, overhead._pass_gate, overhead._pass_admission])
def test_a_measurement_waits_for_nobody_who_never_comes(measure):
    async def measured():
        async with asyncio.timeout(20):
            return await measure(100)

    figures = asyncio.run(measured())

    assert all(figure > 0 for figure in (figures if isinstance(figures, tuple) else (figures,)))


def test_each_integration_is_measured(monkeypatch):
    monkeypatch.setattr(integrations, "CALLS", 20)
    monkeypatch.setattr(integrations, "THREAD_STEPS", 20)

    figures = asyncio.run(integrations.measure())

    assert len(figures) == 10
