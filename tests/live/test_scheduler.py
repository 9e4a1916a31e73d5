"""The embedded engine against vLLM's own scheduler and block manager, step by step, to the last digit.

No server runs: vLLM's classes do, in vLLM's environment, on the same random loads (vllm_scheduler.py).
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

log = logging.getLogger("live_scheduler")

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (0, 100)
LIMIT_S = 120.0


@pytest.fixture(scope="module")
def vllm_python():
    sys.path.insert(0, str(ROOT / "scripts"))
    vllm_env = importlib.import_module("vllm_env")
    return vllm_env.ensure_env(vllm_env.default_venv())


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    sys.path.insert(0, str(ROOT / "scripts"))
    tiny_model = importlib.import_module("tiny_model")
    folder = tmp_path_factory.mktemp("model")
    tiny_model.write_model(folder, tiny_model.ModelSize(hidden=64, layers=1))
    return folder


@pytest.mark.parametrize("mode", [(), ("aborts",), ("async",), ("async", "aborts")], ids=" ".join)
def test_the_engine_does_what_vllms_own_scheduler_does_in_every_step(vllm_python, model_folder, mode):
    played = subprocess.run(
        [
            str(vllm_python),
            str(ROOT / "tests" / "live" / "vllm_scheduler.py"),
            str(model_folder),
            *map(str, SEEDS),
            *mode,
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )

    assert played.returncode == 0, played.stderr[-3000:]
    told = json.loads(played.stdout.splitlines()[-1])
    log.info("%s: %s", " ".join(mode) or "plain", {key: told[key] for key in told if key != "differing"})
    assert told["differing"] == {}
    assert told["loads"] == SEEDS[1] - SEEDS[0]
    assert min(told["steps"], told["preemptions"], told["hits"], told["evicted"]) > 0
