"""What the tests of `gate.sync` share."""

from __future__ import annotations

import pytest

from concur_agents import ConcurGate


@pytest.fixture
def gate():
    """A gate for threads, closed at the end."""
    gate = ConcurGate(controller="fixed:2")
    yield gate
    gate.sync.close()
