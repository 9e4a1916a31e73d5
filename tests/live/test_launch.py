"""Everything that `concur launch vllm` writes, read by the real vLLM's own parser of arguments.

No server runs: the parser does, in vLLM's environment (vllm_parser.py), on all the commands at once, since its import
takes 15 seconds.
"""

from __future__ import annotations

import importlib
import json
import logging
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from concur_agents.launch import VllmProfile, render

log = logging.getLogger("live_launch")

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 240.0

QWEN3_32B = {
    "architectures": ["Qwen3ForCausalLM"],
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 5120,
    "intermediate_size": 25_600,
    "max_position_embeddings": 40_960,
    "model_type": "qwen3",
    "num_attention_heads": 64,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 151_936,
}


@pytest.fixture(scope="module")
def vllm():
    """The environment's Python, and the release that is in it."""
    sys.path.insert(0, str(ROOT / "scripts"))
    vllm_env = importlib.import_module("vllm_env")
    return vllm_env.ensure_env(vllm_env.default_venv()), vllm_env.REQUIREMENT.partition("==")[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "qwen3-32b"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(QWEN3_32B))
    return path


@pytest.fixture(scope="module")
def profiles(vllm, folder):
    load = {"model": "Qwen/Qwen3-32B", "gpus": 8, "agents": 256, "context": 40_960, "version": vllm[1]}
    known = ["qwen3-8b", "qwen3-30b-a3b", "llama-3.1-8b", "llama-3.3-70b", "gpt-oss-120b", "glm-4.5-air"]
    told = {
        "plain": {},
        "stretched": {"context": 65_536},
        "all": {"fp8_kv": True, "priorities": True, "agents": 5000, "served_name": "my model", "host": "::1"},
        "extra": {"extra": ("--seed", "7", "--max_num_seqs=300", "--enforce-eager", "--no-enable-prefix-caching")},
        "folder": {"model": str(folder)},
        "deepseek": {"model": "deepseek-v3", "hardware": "h200"},
    }
    return {name: VllmProfile(**(load | change)) for name, change in told.items()} | {
        model: VllmProfile(**(load | {"model": model, "context": 32_768})) for model in known
    }


@pytest.fixture(scope="module")
def read(vllm, profiles, folder, tmp_path_factory):
    """What vLLM makes of each profile in each format; and of the stretched one with the model's config at hand."""
    files = tmp_path_factory.mktemp("files")
    lines = {}
    for name, profile in profiles.items():
        config = files / f"{name}.yaml"
        config.write_text(render(profile, "yaml"))
        (service,) = yaml.safe_load(render(profile, "compose"))["services"].values()
        pod = next(one for one in yaml.safe_load_all(render(profile, "k8s")) if one["kind"] == "Deployment")
        (container,) = pod["spec"]["template"]["spec"]["containers"]
        lines[name, "args"] = ["serve", *shlex.split(render(profile, "args"))]
        lines[name, "command"] = _ran(render(profile, program=[sys.executable, "-c", _ECHO, "serve"]))
        lines[name, "yaml"] = ["serve", "--config", str(config)]
        lines[name, "compose"] = [*service["entrypoint"][1:], *service["command"]]
        lines[name, "k8s"] = [*container["command"][1:], *container["args"]]
    by_id = lines["stretched", "args"]
    lines["stretched", "with its config"] = ["serve", str(folder), "--skip-tokenizer-init", *by_id[2:]]
    lines["wrong", "args"] = ["serve", "Qwen/Qwen3-32B", "--max-num-sequences", "3"]
    ran = subprocess.run(
        [vllm[0], ROOT / "tests" / "live" / "vllm_parser.py"],
        input=json.dumps(list(lines.values())),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    log.info("vLLM %s has read %d command lines", vllm[1], len(lines))
    return dict(zip(lines, json.loads(ran.stdout.splitlines()[-1]), strict=True))


_ECHO = "import sys, json; print(json.dumps(sys.argv[1:]))"


def _ran(script):
    ran = subprocess.run(["bash", "-s"], input=script, capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def test_vllm_takes_every_command_in_every_format(read, profiles):
    assert {name: said for name, said in read.items() if "refused" in said} == {
        ("wrong", "args"): {"refused": read["wrong", "args"]["refused"]}
    }
    for name, profile in profiles.items():
        for form in ("args", "command", "yaml", "compose", "k8s"):
            said = read[name, form]
            assert said["tensor_parallel_size"] == profile.gpus
            assert said["max_model_len"] == profile.context
            assert said["max_num_seqs"] == profile.limits_taken().max_num_seqs
            assert said["max_num_batched_tokens"] == profile.limits_taken().max_num_batched_tokens
            assert said["enable_prompt_tokens_details"] is said["enable_force_include_usage"] is True
            assert said["kv_cache_metrics"] is True
            assert said["disable_log_stats"] is False
            assert said["host"] == ("0.0.0.0" if form in {"compose", "k8s"} else profile.host)
            assert said["enable_auto_tool_choice"] is (name != "folder")  # how that one writes tool calls nobody knows


def test_the_formats_mean_the_same(read, profiles):
    for name in profiles:
        alone = {form: read[name, form] for form in ("args", "command", "yaml")}
        assert alone["command"] == alone["args"]
        assert alone["yaml"] == alone["args"]
        assert read[name, "k8s"] == read[name, "compose"]


def test_what_is_asked_for_arrives(read):
    everything = read["all", "yaml"]
    assert everything["kv_cache_dtype"] == "fp8"
    assert everything["scheduling_policy"] == "priority"
    assert everything["served_model_name"] == ["my model"]
    assert (read["extra", "yaml"]["seed"], read["extra", "yaml"]["max_num_seqs"]) == (7, 300)
    assert read["extra", "yaml"]["enable_prefix_caching"] is False
    assert read["plain", "yaml"]["enable_prefix_caching"] is True
    assert read["folder", "k8s"]["model"] == "/model"


def test_vllm_stretches_the_model_as_far_as_it_is_told(read):
    assert read["stretched", "with its config"]["context"] == 65_536
    assert read["folder", "args"]["context"] == 40_960


def test_the_parser_is_one_that_refuses(read):
    assert "--max-num-sequences" in read["wrong", "args"]["refused"]
