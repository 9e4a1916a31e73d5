"""The metrics page: as vLLM writes it, for our reader and for Prometheus's own parser."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from prometheus_client.parser import text_string_to_metric_families
from simulation.api_clients import chat, make_api

from concur_agents.engines.vllm import read_vllm
from concur_agents.simulation import Counters, Engine, LinearStepTime
from concur_agents.simulation.metrics_page import MetricsPage, _number
from concur_agents.simulation.virtual_time import run

ENGINE = Engine(1001, LinearStepTime(step=0.01), max_model_len=4000)


def page_of(counters=None, *, model="tiny", **more):
    return MetricsPage(ENGINE, model=model, created=1.7953e9).render(counters or Counters(), **more)


def numbered():
    """Counters that differ in every field."""
    counters = Counters(**{field.name: at * 3 for at, field in enumerate(fields(Counters), 1)})
    counters.kv_cache_usage_perc = 0.25
    counters.prompt_tokens = 1000
    return counters


def samples(page):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_our_reader_takes_it():
    counters = numbered()
    (reading,) = read_vllm(page_of(counters))
    assert reading.engine == "0"
    assert reading.usage == 0.25
    assert reading.running == counters.num_requests_running
    assert reading.waiting == reading.waiting_for_capacity == counters.num_requests_waiting
    assert reading.queries == counters.prefix_cache_queries
    assert reading.hits == counters.prefix_cache_hits
    assert reading.preemptions == counters.num_preemptions
    assert reading.prompt_tokens == counters.prompt_tokens
    assert reading.computed_prompt_tokens == counters.prompt_tokens_computed
    assert reading.generation_tokens == counters.generation_tokens
    assert reading.capacity_tokens == ENGINE.capacity_tokens
    assert reading.block_size == 16
    assert reading.sleeping is False


def test_a_prometheus_parser_takes_it_with_every_number():
    counters = numbered()
    said = samples(page_of(counters, stopped=7))
    values = list(said.values())
    for field in fields(Counters):
        if field.name not in {"request_success", "kv_cache_usage_perc"}:
            assert float(getattr(counters, field.name)) in values, field.name
    labels = (("engine", "0"), ("model_name", "tiny"))
    for reason, value in (("stop", 7), ("length", counters.request_success - 7), ("abort", 0)):
        assert said["vllm:request_success_total", labels[0], ("finished_reason", reason), labels[1]] == value
    for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds", "iteration_tokens_total"):
        count = said[f"vllm:{name}_count", *labels]
        assert said[f"vllm:{name}_bucket", labels[0], ("le", "+Inf"), labels[1]] == count


def test_each_metric_has_help_and_type_once():
    page = page_of()
    for kind in ("HELP", "TYPE"):
        names = re.findall(rf"^# {kind} (\S+)", page, re.MULTILINE)
        assert len(names) == len(set(names))
    told = {line.split("{")[0] for line in page.splitlines() if not line.startswith("#")}
    typed = set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in told} <= typed | told
    assert page.endswith("\n")


def test_a_model_name_is_escaped():
    page = page_of(model='a "b"\\c\nd %s 100%')
    assert {dict(key[1:])["model_name"] for key in samples(page) if "model_name" in dict(key[1:])} == {
        'a "b"\\c\nd %s 100%'
    }
    assert read_vllm(page)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.0"),
        (40, "40.0"),
        (999_999, "999999.0"),
        (1_403_502, "1.403502e+06"),
        (1_000_000, "1.0e+06"),
        (12_345_678_901.5, "1.23456789015e+10"),
        (3.7e-05, "3.7e-05"),
        (1e22, "1e+22"),
        (0.25, "0.25"),
    ],
)
def test_numbers_are_written_as_prometheus_clients_do(value, text):
    assert _number(value) == text
    assert float(text) == value


def test_the_page_says_what_requests_used():
    async def main():
        api = make_api()
        answers = [await chat(api, max_tokens=20, ignore_eos=True), await chat(api, "Hi " * 100)]
        page = await api.handle("GET", "/metrics")
        (reading,) = read_vllm(page.body.decode())
        assert page.content_type.startswith("text/plain; version=0.0.4")
        used = [answer["usage"] for answer in answers]
        assert reading.generation_tokens == sum(one["completion_tokens"] for one in used)
        assert reading.prompt_tokens == sum(one["prompt_tokens"] for one in used)
        ends = [value for key, value in samples(page.body.decode()).items() if key[0] == "vllm:request_success_total"]
        assert sorted(ends) == [0, 0, 0, 1, 1]

    run(main())
