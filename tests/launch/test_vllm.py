from __future__ import annotations

import json
import re

import pytest
from pydantic import ValidationError

from concur_agents.launch import VllmProfile
from concur_agents.launch.versions import NEWEST, has_flag, parse_version, written


def vllm(**told):
    return VllmProfile(**({"model": "Qwen/Qwen3-32B", "gpus": 8, "agents": 256, "context": 40_960} | told))


def options(profile):
    return {flag.name: flag.value for flag in profile.flags()}


def warned(profile):
    return "\n".join(profile.warnings())


def test_agents_get_what_they_need_and_every_flag_its_reason():
    profile = vllm()

    flags = options(profile)

    assert flags[""] == "Qwen/Qwen3-32B"
    assert flags["--tensor-parallel-size"] == "8"
    assert flags["--max-model-len"] == "40960"
    assert flags["--max-num-seqs"] == "256"
    assert flags["--host"] == "127.0.0.1"
    assert flags["--tool-call-parser"] == "hermes"
    for switch in ("--enable-prefix-caching", "--enable-prompt-tokens-details", "--enable-force-include-usage"):
        assert flags[switch] is None
    assert "--disable-log-stats" not in flags
    assert "--api-key" not in flags
    assert all(flag.reason and "\n" not in flag.reason for flag in profile.flags())
    assert profile.warnings() == []


def test_a_name_of_ours_becomes_the_id_that_the_server_knows():
    assert vllm(model="qwen3-32b").arguments()[0] == "Qwen/Qwen3-32B"


@pytest.mark.parametrize(
    ("version", "there", "not_there"),
    [
        ("0.9", {"--disable-log-requests"}, {"--enable-force-include-usage", "--kv-cache-metrics"}),
        ("0.9.1", {"--disable-log-requests"}, {"--enable-force-include-usage"}),
        ("0.9.2", {"--disable-log-requests", "--enable-force-include-usage"}, {"--kv-cache-metrics"}),
        ("0.10.1.1", {"--enable-force-include-usage"}, {"--disable-log-requests", "--kv-cache-metrics"}),
        ("0.12", {"--kv-cache-metrics"}, {"--disable-access-log-for-endpoints", "--disable-log-requests"}),
        ("0.16.0", {"--kv-cache-metrics", "--disable-access-log-for-endpoints"}, {"--disable-log-requests"}),
        ("v0.33", {"--kv-cache-metrics", "--disable-access-log-for-endpoints"}, {"--disable-log-requests"}),
    ],
)
def test_each_version_gets_the_flags_that_it_has(version, there, not_there):
    flags = options(vllm(version=version)).keys()

    assert there <= flags
    assert not not_there & flags


def test_an_image_of_that_version_is_run():
    assert vllm(version="0.12").own_image() == "vllm/vllm-openai:v0.12.0"
    assert vllm(version="v0.10.2").own_image() == "vllm/vllm-openai:v0.10.2"


def test_streams_without_usage_are_warned_of_where_the_flag_is_missing():
    assert "stream_options" in warned(vllm(version="0.9.1"))
    assert "stream_options" not in warned(vllm(version="0.9.2"))


def test_a_version_newer_than_what_is_known_is_served_with_a_warning():
    assert "newer than 0.33" in warned(vllm(version="0.99"))
    assert "newer" not in warned(vllm(version="0.33.2"))


@pytest.mark.parametrize("version", ["0.8.5", "", "latest", "0", "0.x", "1.2.3.4;rm"])
def test_no_version_and_old_versions_are_refused(version):
    with pytest.raises(ValidationError):
        vllm(version=version)


def test_versions_are_ordered_and_written():
    assert parse_version("0.10") > parse_version("0.9.2")
    assert (written(NEWEST), written((0, 10, 2))) == ("0.33", "0.10.2")
    assert has_flag(parse_version("0.16"), "--disable-log-requests")
    assert not has_flag(parse_version("0.17"), "--disable-log-requests")


@pytest.mark.parametrize(
    ("context", "version", "key", "factor"),
    [
        (65_536, "0.33", "rope_parameters", 2.0),
        (131_072, "0.12", "rope_parameters", 4.0),
        (65_537, "0.11.2", "rope_scaling", 3.0),
        (40_961, "0.9.2", "rope_scaling", 2.0),
    ],
)
def test_more_context_than_the_model_has_is_stretched_as_its_card_says(context, version, key, factor):
    profile = vllm(context=context, version=version)

    overrides = json.loads(options(profile)["--hf-overrides"])

    assert overrides[key]["factor"] == factor
    assert overrides[key]["original_max_position_embeddings"] == 32_768
    assert overrides["max_position_embeddings"] == factor * 32_768 >= context
    assert "YaRN stretches all contexts" in warned(profile)


def test_the_context_that_the_model_has_is_not_stretched():
    assert "--hf-overrides" not in options(vllm(context=40_960))


def test_more_context_than_a_model_can_do_is_refused():
    with pytest.raises(ValidationError, match="is made for 40,960 tokens, not 131,073"):
        vllm(context=131_073)
    with pytest.raises(ValidationError, match="is made for 131,072 tokens"):
        vllm(model="llama-3.3-70b", context=200_000)


def test_who_overrides_the_model_knows_what_they_do():
    profile = vllm(model="llama-3.3-70b", context=200_000, extra=("--hf-overrides.rope_parameters.factor", "2"))

    assert "200000" in profile.arguments()


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--max-num-seqs", "64"], "--max-num-seqs 64 is under the 256 agents.*ConcurGate.max_agents=64"),
        (["--disable-log-stats"], "turns the metrics off"),
        (["--no-enable-prompt-tokens-details"], "without --enable-prompt-tokens-details"),
        (["--no-enable-prefix-caching"], "without --enable-prefix-caching"),
        (["--no_enable_prefix_caching"], "without --enable-prefix-caching"),
        (["-dp", "2"], "--data-parallel-size is not counted"),
        (["--disable-log-requests"], "has no --disable-log-requests .until 0.17"),
    ],
)
def test_what_hurts_is_warned_of(extra, said):
    assert re.search(said, warned(vllm(extra=tuple(extra))))


def test_priorities_need_the_policy():
    assert options(vllm(priorities=True))["--scheduling-policy"] == "priority"
    assert "--scheduling-policy" not in options(vllm())
    assert "refused without" in warned(vllm(priorities=True, extra=("--scheduling-policy", "fcfs")))


def test_more_agents_than_requests_at_once_are_warned_of():
    profile = vllm(agents=5000)

    assert options(profile)["--max-num-seqs"] == "1024"
    assert "ConcurGate(max_agents=1024)" in warned(profile)
    assert "5000 agents are 104 times what fits" in warned(profile)


def test_keys_and_values_that_are_kept_twice_are_warned_of_with_the_better_split():
    said = warned(vllm(model="qwen3-30b-a3b"))

    assert "kept 2 times" in said
    assert "2 servers of 4 GPUs would hold 1.8 times as much" in said


def test_a_smaller_gpu_gets_smaller_steps():
    assert options(vllm(hardware="a100-80"))["--max-num-batched-tokens"] == "2048"
    assert options(vllm(hardware="b200"))["--max-num-batched-tokens"] == "16384"


def test_what_is_added_by_hand_replaces_ours():
    profile = vllm(extra=("--max_num_seqs=512", "--seed", "1", "--enforce-eager", "--lora-modules", "a=b", "c=d"))

    flags = [flag.words for flag in profile.flags()]

    assert ["--max_num_seqs", "512"] in flags
    assert ["--lora-modules", "a=b", "c=d"] in flags
    assert not [words for words in flags if words[0] == "--max-num-seqs"]
    assert profile.limits_taken().max_num_seqs == 512


@pytest.mark.parametrize("name", ["--api-key", "--api_key", "--api-k", "--hf-token", "--hf-t"])
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(name):
    for extra in ((name, "sk-secret"), (f"{name}=sk-secret",)):
        with pytest.raises(ValidationError, match="could read it there") as refused:
            vllm(extra=extra)
        assert "sk-secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["--host", "--port", "-tp", "--max_model_len", "--model", "--config"])
def test_what_is_ours_to_say_is_not_taken_from_behind(name):
    with pytest.raises(ValidationError, match="is not for after --"):
        vllm(extra=(name, "1"))


def test_tools_are_known_told_or_left_out():
    assert options(vllm(tool_parser="qwen3_xml"))["--tool-call-parser"] == "qwen3_xml"
    assert "--enable-auto-tool-choice" not in options(vllm(tool_parser="none"))
    assert warned(vllm(tool_parser="none")) == ""

    old = vllm(model="gpt-oss-120b", version="0.10.1")
    assert "--tool-call-parser" not in options(old)
    assert "no parser openai for tool calls" in warned(old)

    told = {"model": "who/knows", "kv_bytes_per_token": 1000, "weight_gib": 10}
    assert "say --tool-parser NAME" in warned(vllm(**told))


def test_others_are_let_in_only_with_a_warning():
    assert "set VLLM_API_KEY" in warned(vllm(host="0.0.0.0"))
    assert "VLLM_API_KEY" not in warned(vllm(host="localhost"))
