"""An engine as a file."""

from __future__ import annotations

import json

import pytest

from concur_agents.simulation import LinearStepTime, Prompt
from concur_agents.simulation.hardware import parse_hardware
from concur_agents.simulation.models import MODELS
from concur_agents.simulation.profile import EngineProfile, LinearProfile, RooflineProfile
from concur_agents.simulation.roofline import kv_capacity_tokens

SMALL = EngineProfile(
    name="tiny", blocks=129, max_model_len=1024, max_num_seqs=64, step_time=LinearProfile(step=0.01, token=0.0004)
)


def test_a_profile_from_hardware_is_what_vllm_would_start():
    profile = EngineProfile.from_hardware("Qwen/Qwen3-32B", "H100:8")
    assert profile.name == "Qwen/Qwen3-32B"
    assert profile.step_time == RooflineProfile(model="qwen3-32b", hardware="h100:8")
    assert (profile.block_size, profile.max_model_len) == (16, 40960)
    assert profile.blocks == kv_capacity_tokens(MODELS["qwen3-32b"], parse_hardware("h100:8")) // 16
    assert 1_600_000 < profile.capacity_tokens < 2_000_000


@pytest.mark.parametrize(
    ("hardware", "tokens", "requests"),
    [
        ("b200", 16384, 1024),
        ("mi300x", 16384, 1024),
        ("h200", 8192, 1024),
        ("h100", 8192, 1024),
        ("a100-80", 2048, 256),
        ("l40s", 2048, 256),
    ],
)
def test_the_limits_are_vllms_own_for_the_gpu(hardware, tokens, requests):
    profile = EngineProfile.from_hardware("qwen3-8b", hardware)
    assert (profile.max_num_batched_tokens, profile.max_num_seqs) == (tokens, requests)


def test_the_context_is_the_models_own_or_what_fits():
    assert EngineProfile.from_hardware("qwen3-8b", "h100").max_model_len == 40960
    small = EngineProfile.from_hardware("qwen3-8b", "rtx-4090")
    assert small.max_model_len == (small.blocks - 1) * 16 < 40960
    assert EngineProfile.from_hardware("qwen3-8b", "h100", max_model_len=4096).max_model_len == 4096


@pytest.mark.parametrize(("hardware", "asked"), [("rtx-4090", 40960), ("h100", 50000), ("h100", 1), ("h100", 0)])
def test_a_context_that_cannot_be_served_is_refused_with_what_can(hardware, asked):
    with pytest.raises(ValueError, match=rf"max_model_len is {asked}: it must be at least 2, .* takes at most 40960"):
        EngineProfile.from_hardware("qwen3-8b", hardware, max_model_len=asked)


def test_a_profile_makes_an_engine_that_runs_on_its_clock():
    engine = SMALL.engine()
    assert (engine.max_model_len, engine.capacity_tokens) == (1024, SMALL.capacity_tokens)
    engine.submit(0.0, Prompt([("task", 100)]), 1)
    engine.advance(0.0)
    assert engine.next_event() == pytest.approx(0.01 + 100 * 0.0004)


def test_each_engine_begins_anew():
    first = SMALL.engine()
    first.submit(5.0, Prompt([("task", 100)]), 1)
    first.advance(10.0)
    assert first.steps == 1
    assert SMALL.engine().steps == 0


@pytest.mark.parametrize("profile", [SMALL, EngineProfile.from_hardware("deepseek-v3", "h100:16")])
def test_what_is_saved_is_loaded(tmp_path, profile):
    path = tmp_path / "engine.json"
    profile.save(path)
    assert EngineProfile.load(path) == profile
    assert EngineProfile.load(str(path)) == profile
    assert [file.name for file in tmp_path.iterdir()] == ["engine.json"]


def test_saving_replaces_what_is_there_and_leaves_it_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "engine.json"
    path.write_text("old", encoding="utf-8")

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            SMALL.save(path)
    assert path.read_text(encoding="utf-8") == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["engine.json"]
    SMALL.save(path)
    assert EngineProfile.load(path) == SMALL


def test_a_linear_clock_has_the_fields_of_a_linear_step_time():
    made = LinearProfile(step=1.0, token=2.0, attended=3.0, read=4.0).step_time()
    assert made == LinearStepTime(step=1.0, token=2.0, attended=3.0, read=4.0)


@pytest.mark.parametrize(
    ("change", "field", "fault"),
    [
        ({"blocks": 1}, "blocks", "greater than or equal to 2"),
        ({"blocks": "many"}, "blocks", "valid integer"),
        ({"name": ""}, "name", "at least 1 character"),
        ({"nmae": "x"}, "nmae", "Extra inputs"),
        ({"watermark": 1.0}, "watermark", "less than 1"),
        ({"max_model_len": 10**6}, "", "max_model_len is 1000000: it must be 2 or more, and 129 blocks"),
        ({"max_num_seqs": 9000}, "", "must be at least max_num_seqs"),
        ({"step_time": {"kind": "linear", "step": 0}}, "step_time.step", "greater than 0"),
        ({"step_time": {"kind": "linear", "step": 1, "read": -1}}, "step_time.read", "greater than or equal to 0"),
        ({"step_time": {"kind": "linear", "step": 1, "tokens": 1}}, "step_time.tokens", "Extra inputs"),
        ({"step_time": {"kind": "cubic"}}, "step_time", "'roofline', 'linear'"),
        ({"step_time": {"step": 1}}, "step_time", "kind"),
        (
            {"step_time": {"kind": "roofline", "model": "gpt-5", "hardware": "h100"}},
            "step_time.model",
            "no model is known as 'gpt-5'",
        ),
        (
            {"step_time": {"kind": "roofline", "model": "qwen3-8b", "hardware": "h100:x"}},
            "step_time.hardware",
            "is no number of GPUs",
        ),
        (
            {"step_time": {"kind": "roofline", "model": "qwen3-8b", "hardware": "h100:3"}},
            "step_time",
            "cannot share evenly",
        ),
    ],
)
def test_a_bad_file_is_refused_with_its_name_the_field_and_the_fault(tmp_path, change, field, fault):
    path = tmp_path / "engine.json"
    path.write_text(json.dumps(SMALL.model_dump() | change), encoding="utf-8")
    with pytest.raises(ValueError, match="engine") as refused:
        EngineProfile.load(path)
    assert str(refused.value).startswith(f"{path}: {field}: " if field else f"{path}: ")
    assert fault in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"step_time": NaN}'])
def test_a_file_that_is_no_profile_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "engine.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="engine") as refused:
        EngineProfile.load(path)
    assert str(refused.value).startswith(f"{path}: ")


def test_a_missing_file_is_refused_with_its_name(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.json: cannot be read: No such file"):
        EngineProfile.load(tmp_path / "nothing.json")
