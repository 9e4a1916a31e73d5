from __future__ import annotations

import pytest
from doctor.odd_servers import OddServer

import concur_agents.doctor.examination as examination_module


@pytest.fixture(autouse=True)
def no_pauses_between_looks(monkeypatch):
    monkeypatch.setattr(examination_module, "POLL_PAUSE_S", 0)


@pytest.fixture
async def server():
    async with OddServer() as server:
        yield server
