from __future__ import annotations

import sys
from pathlib import Path

import pytest

from concur_agents.simulation.profile import EngineProfile, LinearProfile

# `concur compare` is tested against the same stand-in server as the replay.
sys.path.insert(0, str(Path(__file__).parents[1] / "replay"))


@pytest.fixture
def fit(tmp_path):
    """A file of a tiny engine, for `--fit`."""
    path = tmp_path / "fit.json"
    EngineProfile(
        name="tiny",
        description="fitted to a tiny server",
        blocks=513,
        max_model_len=4096,
        step_time=LinearProfile(step=0.01, token=1e-4),
    ).save(path)
    return path
