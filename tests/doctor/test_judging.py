"""What pages and answers mean: the judges are given them, without a server."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from doctor.odd_servers import with_engines
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from concur_agents.doctor.evidence import Evidence, Poll, Probe, Reply, plain, said_by
from concur_agents.doctor.examination import judge
from concur_agents.engines import read_vllm

PAGES = Path(__file__).parents[1] / "engines" / "pages"
RELEASES = sorted(path.stem.removeprefix("vllm-") for path in PAGES.glob("vllm-*.txt"))


def looked(text, *, time=0.0, took_s=0.01):
    return Poll(time, took_s, text, read_vllm(text))


def page_of(release):
    return (PAGES / f"vllm-{release}.txt").read_text(encoding="utf-8")


def evidence_of(text, *, version="0.32.0", longest=32_768, **more):
    models = {"data": [{"id": "m", "max_model_len": longest}]}
    given = {"polls": (looked(text),), "version": Reply(200, {"version": version}), "models": Reply(200, models)}
    return Evidence(url="http://h", **{**given, "requests": False, **more})


def one(report, check):
    (finding,) = [finding for finding in report.findings if finding.check == check]
    return finding


@pytest.mark.parametrize("release", RELEASES)
def test_a_gate_works_with_every_release_whose_page_is_kept(release):
    report = judge(evidence_of(page_of(release), version=release))

    assert report.ok
    assert one(report, "version").says.startswith(f"vLLM {release}")
    assert one(report, "prefix-caching").level == "ok"


def test_names_that_are_missing_are_told_with_what_is_lost():
    said = {
        release: [finding.says for finding in judge(evidence_of(page_of(release))).findings if finding.level == "warn"]
        for release in ("0.6.6", "0.8.5", "0.9.2", "0.32.0")
    }

    assert len(said["0.6.6"]) == len(said["0.8.5"]) == 1
    assert "vllm:prefix_cache_queries" in said["0.6.6"][0]
    assert "vllm:cache_config_info" in said["0.8.5"][0]
    assert said["0.9.2"] == said["0.32.0"] == []


def test_the_name_under_which_a_value_was_found_is_a_fact():
    new, old = (judge(evidence_of(page_of(release))).facts["metrics"] for release in ("0.32.0", "0.8.5"))

    assert (new["usage"], old["usage"]) == ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
    assert old["capacity_tokens"] is None


def test_without_size_and_usage_of_the_cache_a_gate_does_not_work():
    report = judge(evidence_of("vllm:num_requests_running 0.0\n"))

    assert not report.ok
    assert [finding.do for finding in report.findings if finding.level == "fail"] == [
        "update vLLM, or cap by hand: controller='fixed:16'"
    ]
    assert report.facts["capacity_tokens"] is None


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("0.6.6", "warn"),
        ("0.8.5.post1", "warn"),
        ("0.9.0", "ok"),
        ("0.33.0rc1", "ok"),
        ("0.34.0", "note"),
        ("1.0", "note"),
        ("dev", "note"),
        ("0.32.0+concur.0.1.0", "note"),
    ],
)
def test_versions_are_placed(version, level):
    assert one(judge(evidence_of(page_of("0.32.0"), version=version)), "version").level == level


def test_a_server_that_does_not_tell_its_version_is_judged_by_its_metrics():
    report = judge(evidence_of(page_of("0.32.0"), version=3))

    assert report.ok
    assert one(report, "version").level == "note"


@pytest.mark.parametrize(("longest", "counts"), [(8192, "28 of 512 tokens, 7 of 2,048 tokens, 1 of 8,192")])
def test_agents_that_fit_are_counted_in_what_a_gate_fills(longest, counts):
    finding = one(judge(evidence_of(page_of("0.32.0"), longest=longest)), "capacity")

    assert counts in finding.says  # 0.88 · 16,384 = 14,418
    assert finding.level == "note"
    assert "--gpu-memory-utilization" in finding.do


def test_no_engine_lends_its_cache_to_another():
    """Two caches of 16,384 hold one context of 14,000 each, not two and a bit together."""
    page = page_of("0.32.0")
    both = with_engines(2)(page)

    report = judge(evidence_of(both, longest=14_000))

    assert report.facts["agents_that_fit"][14_000] == 2
    assert report.facts["capacity_tokens"] == 32_768


def test_of_usual_sizes_those_are_counted_that_the_cache_holds():
    report = judge(evidence_of(page_of("0.32.0"), longest=None))

    assert list(report.facts["agents_that_fit"]) == [8_192]
    assert one(report, "capacity").level == "ok"


def test_a_server_that_does_not_tell_its_longest_context_gets_usual_sizes():
    report = judge(evidence_of(page_of("0.33"), longest=None))

    assert list(report.facts["agents_that_fit"]) == [8_192, 32_768, 131_072]
    assert "contexts up to" not in one(report, "model").says


@pytest.mark.parametrize(("seqs", "level"), [(1, "warn"), (128, "ok"), ("many", "note"), (0, "note")])
def test_a_scheduler_that_keeps_agents_from_filling_the_cache_is_a_warning(seqs, level):
    info = Reply(200, {"vllm_config": {"scheduler_config": {"max_num_seqs": seqs, "policy": "fcfs"}}})

    finding = one(judge(evidence_of(page_of("0.33"), server_info=info)), "scheduler")

    assert finding.level == level


def test_others_on_the_server_are_a_note_and_a_warning_when_they_fill_it():
    page = page_of("0.33")
    full = page.replace('vllm:kv_cache_usage_perc{engine="0",model_name="Qwen/Qwen3-8B"} 0.42', "") + (
        'vllm:kv_cache_usage_perc{engine="0"} 0.97\n'
    )

    assert one(judge(evidence_of(page)), "traffic").level == "note"
    assert one(judge(evidence_of(full)), "traffic").level == "warn"
    assert "97% of the cache" in one(judge(evidence_of(full)), "traffic").says


@pytest.mark.parametrize(
    ("polls", "level", "says"),
    [
        ([0.01] * 10, "ok", "takes 10 ms (the longest of 10: 10)"),
        ([0.01] * 9 + [1.5], "warn", "takes 10 ms (the longest of 10: 1,500)"),
        ([0.01] * 9 + [None], "warn", "1 of 10 looks failed (no whole page)"),
    ],
)
def test_slow_and_failing_looks_are_warned_of(polls, level, says):
    page = page_of("0.32.0")
    looks = tuple(
        Poll(n, 5.0, error="no whole page") if took is None else looked(page, time=n, took_s=took)
        for n, took in enumerate(polls)
    )

    finding = one(judge(evidence_of(page, polls=looks)), "polling")

    assert finding.level == level
    assert says in finding.says


def test_one_restart_while_looking_is_a_warning():
    page = page_of("0.33")
    name = 'vllm:prompt_tokens_total{engine="0",model_name="Qwen/Qwen3-8B"}'
    anew = "\n".join(f"{name} 5.0" if line.startswith(name) else line for line in page.splitlines()) + "\n"

    report = judge(evidence_of(page, polls=(looked(page), looked(anew, time=1), looked(anew, time=2))))

    assert one(report, "restarts").level == "warn"
    assert report.facts["polling"]["restarts"] == 1


def test_uptime_is_told_on_the_servers_own_clock():
    page = "process_start_time_seconds 1000.0\n" + page_of("0.32.0")
    version = Reply(200, {"version": "0.32.0"}, server_time=4661.0, clock_ahead_s=-1e9)

    report = judge(replace(evidence_of(page), version=version))

    assert "up for 1:01:01" in one(report, "restarts").says
    assert report.facts["uptime_s"] == 3661
    assert one(report, "clock").level == "note"


NUMBERS = st.sampled_from(["0", "-1", "NaN", "+Inf", "1e300", "0.5", "7", "1e-9"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["data", "id", "max_model_len", "version"]), inner),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(page=st.sampled_from(RELEASES), data=st.data(), replies=st.lists(ANYTHING, min_size=3, max_size=3))
def test_whatever_stands_on_a_page_and_in_answers_becomes_a_report(page, data, replies):
    def odd(match):
        return data.draw(NUMBERS) if data.draw(st.integers(0, 9)) == 0 else match[0]

    lines = [line for line in page_of(page).splitlines() if line.startswith("vllm:") and "_bucket" not in line]
    text = "\n".join(re.sub(r"(?<=\")\d+(?=\")|(?<= )[0-9.e+]+$", odd, line) for line in lines) + "\n"
    version, models, info = (Reply(200, reply, server_time=1e9, clock_ahead_s=0.0) for reply in replies)

    report = judge(replace(evidence_of(text), version=version, models=models, server_info=info))

    assert json.loads(json.dumps(report.as_json(), allow_nan=False))["findings"]


class TestThePrefixTest:
    """`before` and `after` differ by what the two requests of 257 tokens make of them."""

    def probe(self, *, cached, hits=256.0, prompt_tokens=514.0):
        before = looked(page_of("0.33"))
        (reading,) = before.readings
        grown = replace(reading, hits=reading.hits + hits, prompt_tokens=reading.prompt_tokens + prompt_tokens)
        usage = {"usage": {"prompt_tokens_details": None if cached is None else {"cached_tokens": cached}}}
        replies = (Reply(200), Reply(200, usage))
        return Probe(257, 256, replies, streamed_usage=False, before=before, after=replace(before, readings=(grown,)))

    def verdict(self, **given):
        report = judge(evidence_of(page_of("0.33"), requests=True, probe=self.probe(**given)))
        return one(report, "prefix-test")

    @pytest.mark.parametrize(
        ("told", "level", "says"),
        [
            ({"cached": 256}, "ok", "256 of 256"),
            ({"cached": 128}, "ok", "128 of 256"),
            ({"cached": 256, "prompt_tokens": 9514.0}, "ok", "9,000 prompt tokens of others"),
            ({"cached": 0, "hits": 0.0}, "fail", "does not work"),
            ({"cached": 0, "hits": 5000.0, "prompt_tokens": 9514.0}, "fail", "does not work"),
            ({"cached": None}, "ok", "256 more hits"),
            ({"cached": None, "hits": 0.0}, "fail", "does not work"),
            ({"cached": None, "hits": 300.0, "prompt_tokens": 9514.0}, "warn", "9,000 prompt tokens of others"),
            ({"cached": None, "hits": 0.0, "prompt_tokens": 9514.0}, "warn", "9,000 prompt tokens of others"),
        ],
    )
    def test_answers_speak_of_us_alone_and_counters_of_all(self, told, level, says):
        finding = self.verdict(**told)

        assert finding.level == level
        assert says in finding.says

    def test_a_context_without_room_for_a_block_cannot_be_tested(self):
        report = judge(evidence_of(page_of("0.33"), requests=True, longest=10))

        assert one(report, "prefix-test").level == "warn"
        assert "--max-model-len" in one(report, "prefix-test").do


def test_foreign_text_is_one_line_without_control_signs():
    assert plain("a\x1b[31m\nb\t\u202ec", 60) == "a [31m b c"
    assert plain("x" * 100, 10) == "xxxxxxxxx…"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"error": {"message": "m"}}, "m"),
        ({"message": "m"}, "m"),
        ({"detail": "m"}, "m"),
        ({"error": "m"}, "m"),
        ({"detail": [{"loc": 3}]}, ""),
        (["m"], ""),
        (None, ""),
    ],
)
def test_the_words_of_an_error_are_found_in_the_usual_places(body, says):
    assert said_by(body) == says
