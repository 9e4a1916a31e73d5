"""A vLLM page of any release from 0.6.6 to 0.33 becomes one reading an engine."""

from __future__ import annotations

import pytest

from concur_agents.engines import EngineReading, read_vllm
from concur_agents.errors import MetricsError

# What the hand-made pages have in common: one server in the same state under each release.
STATE = EngineReading(
    engine="0",
    usage=0.42,
    running=3,
    waiting=2,
    capacity_tokens=400_000,
    block_size=16,
    queries=1_500_000,
    hits=1_200_000,
    preemptions=7,
    prompt_tokens=1_503_502,
    generation_tokens=250_180,
)


def like(**differences):
    values = {name: getattr(STATE, name) for name in EngineReading.__dataclass_fields__}
    return EngineReading(**(values | differences))


# Cached elsewhere (offload): 3,502 tokens, on all pages that can say it.
NEWEST = like(
    waiting_for_capacity=1, capacity_tokens=396_800, computed_prompt_tokens=299_000
)  # kv_cache_size_tokens is less than blocks times block size there
RELEASES = {
    "0.6.6": like(queries=None, hits=None, hit_rate_gauge=0.8125),
    # In blocks of 16: 93,750 and 75,000.
    "0.7.3": like(queries=93_750, hits=75_000, computed_prompt_tokens=303_502),
    "0.8.5": like(queries=93_750, hits=75_000, capacity_tokens=None, computed_prompt_tokens=303_502),
    "0.9.2": like(computed_prompt_tokens=303_502),
    "0.10.2": like(computed_prompt_tokens=303_502),
    "0.11.2": like(computed_prompt_tokens=300_000),
    "0.12": like(usage=3.7e-05, computed_prompt_tokens=300_000),
    "0.16": like(computed_prompt_tokens=299_000),
    "0.20": like(waiting_for_capacity=1, computed_prompt_tokens=299_000),
    "0.25": NEWEST,
    "0.33": NEWEST,
}


@pytest.mark.parametrize("release", RELEASES)
def test_the_page_of_every_release_is_read(release, page_of):
    assert read_vllm(page_of(release)) == (RELEASES[release],)


def test_the_page_of_a_real_0_32_server_is_read(page_of):
    assert read_vllm(page_of("0.32.0")) == (
        EngineReading(
            engine="0",
            usage=0,
            running=0,
            waiting=0,
            waiting_for_capacity=0,
            sleeping=False,
            capacity_tokens=16_384,
            block_size=32,
            queries=40,
            hits=0,
            preemptions=0,
            prompt_tokens=40,
            computed_prompt_tokens=40,
            generation_tokens=180,
        ),
    )


@pytest.mark.parametrize("release", RELEASES)
def test_counters_may_be_written_without_total(release, page_of):
    assert read_vllm(page_of(release).replace("_total", "")) == (RELEASES[release],)


def one(text):
    (reading,) = read_vllm(text)
    return reading


def test_the_time_when_a_counter_was_made_is_never_read():
    assert one("vllm:num_requests_running 3\nvllm:prompt_tokens_created 1.7953108878191526e+09\n") == EngineReading(
        running=3
    )


def test_newer_names_win_where_a_page_has_both():
    reading = one(
        "vllm:gpu_cache_usage_perc 0.1\nvllm:kv_cache_usage_perc 0.2\n"
        "vllm:prefix_cache_hits_total 8\nvllm:prefix_cache_queries_total 10\n"
        "vllm:gpu_prefix_cache_hits_total 1\nvllm:gpu_prefix_cache_queries_total 1\n"
        "vllm:prompt_tokens_total 5\nvllm:prompt_tokens 7\n"
    )
    assert (reading.usage, reading.hits, reading.queries, reading.prompt_tokens) == (0.2, 8, 10, 5)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1.0"])
def test_a_value_that_cannot_be_is_not_said(value):
    reading = one(f"vllm:kv_cache_usage_perc {value}\nvllm:num_requests_waiting 4\nvllm:prompt_tokens_total {value}\n")
    assert reading == EngineReading(waiting=4)


def test_a_nan_under_the_newer_name_leaves_the_older_one_to_speak():
    assert one("vllm:kv_cache_usage_perc NaN\nvllm:gpu_cache_usage_perc 0.3\n").usage == 0.3


def test_a_hit_rate_of_minus_one_means_that_prefix_caching_is_off(page_of):
    page = page_of("0.6.6").replace("0.8125", "-1.0")
    assert one(page).hit_rate_gauge is None


def test_shares_are_never_above_one():
    assert one("vllm:gpu_cache_usage_perc 1.02\n").usage == 1


class TestSeveralEngines:
    def test_each_engine_of_a_page_has_a_reading_in_the_order_of_their_numbers(self):
        page = "".join(f'vllm:num_requests_running{{engine="{n}"}} {n}.0\n' for n in (10, 2, 0))
        assert [(r.engine, r.running) for r in read_vllm(page)] == [("0", 0), ("2", 2), ("10", 10)]

    def test_several_models_on_one_engine_are_one_engine(self):
        page = (
            'vllm:num_requests_running{engine="0",model_name="base"} 3\n'
            'vllm:num_requests_running{engine="0",model_name="adapter"} 2\n'
            'vllm:kv_cache_usage_perc{engine="0",model_name="base"} 0.5\n'
            'vllm:kv_cache_usage_perc{engine="0",model_name="adapter"} 0.3\n'
            'vllm:prompt_tokens_total{engine="0",model_name="base"} 100\n'
            'vllm:prompt_tokens_total{engine="0",model_name="adapter"} 50\n'
        )
        assert one(page) == EngineReading(usage=0.5, running=5, prompt_tokens=150)

    def test_usage_said_by_each_api_server_process_is_not_added_up(self):
        page = 'vllm:kv_cache_usage_perc{engine="0",pid="7"} 0.4\nvllm:kv_cache_usage_perc{engine="0",pid="8"} 0.5\n'
        assert one(page).usage == 0.5


class TestCapacity:
    @staticmethod
    def page(*configs):
        lines = [f"vllm:cache_config_info{{{config}}} 1.0\n" for config in configs]
        engines = [f'vllm:num_requests_running{{engine="{n}"}} 0\n' for n in range(len(configs))]
        return "".join(engines + lines)

    def test_the_size_in_tokens_wins_over_blocks(self):
        page = self.page('block_size="16",engine="0",kv_cache_size_tokens="900",num_gpu_blocks="100"')
        assert one(page).capacity_tokens == 900

    @pytest.mark.parametrize("size", ["None", "", "0", "nan", "inf", "many"])
    def test_a_size_that_is_no_number_leaves_it_to_the_blocks(self, size):
        page = self.page(f'block_size="16",engine="0",kv_cache_size_tokens="{size}",num_gpu_blocks="100"')
        assert one(page).capacity_tokens == 1600

    def test_without_blocks_the_capacity_is_not_said(self):
        reading = one(self.page('block_size="16",engine="0",num_gpu_blocks="None"'))
        assert (reading.capacity_tokens, reading.block_size) == (None, 16)

    def test_blocks_are_those_of_all_engines_together_and_are_shared_out(self):
        config = 'block_size="16",engine="{}",num_gpu_blocks="400"'
        readings = read_vllm(self.page(*(config.format(n) for n in range(4))))
        assert [r.capacity_tokens for r in readings] == [1600] * 4

    def test_the_size_in_tokens_is_each_engine_s_own(self):
        config = 'block_size="16",engine="{}",kv_cache_size_tokens="1584",num_gpu_blocks="400"'
        readings = read_vllm(self.page(*(config.format(n) for n in range(4))))
        assert [r.capacity_tokens for r in readings] == [1584] * 4

    def test_a_line_without_an_engine_speaks_for_all(self):
        page = (
            'vllm:num_requests_running{engine="0"} 0\nvllm:num_requests_running{engine="1"} 0\n'
            'vllm:cache_config_info{block_size="16",num_gpu_blocks="100"} 1.0\n'
        )
        assert [(r.capacity_tokens, r.block_size) for r in read_vllm(page)] == [(800, 16)] * 2

    def test_of_two_lines_for_one_engine_the_smaller_is_believed(self):
        page = self.page('engine="0",kv_cache_size_tokens="900"') + self.page('engine="0",kv_cache_size_tokens="500"')
        assert one(page).capacity_tokens == 500

    def test_a_cold_old_server_says_its_capacity_and_nothing_else(self):
        page = 'vllm:cache_config_info{block_size="16",num_gpu_blocks="100"} 1.0\n'
        assert one(page) == EngineReading(capacity_tokens=1600, block_size=16)


class TestComputedPromptTokens:
    COUNTERS = "vllm:prompt_tokens_total 100\nvllm:prefix_cache_hits_total 30\n"
    BY_SOURCE = (
        'vllm:prompt_tokens_by_source_total{source="local_compute"} 60\n'
        'vllm:prompt_tokens_by_source_total{source="local_cache_hit"} 30\n'
    )
    HISTOGRAM = "vllm:request_prefill_kv_computed_tokens_sum 50\nvllm:request_prefill_kv_computed_tokens_count 2\n"

    @pytest.mark.parametrize(
        ("page", "computed"),
        [
            (COUNTERS + BY_SOURCE + HISTOGRAM, 60),
            (COUNTERS + HISTOGRAM, 50),
            (COUNTERS, 70),
            (COUNTERS + "vllm:external_prefix_cache_hits_total 10\n", 60),
            ("vllm:prompt_tokens_total 100\n", None),
            ("vllm:prefix_cache_hits_total 30\n", None),
        ],
    )
    def test_they_are_read_where_they_stand_or_worked_out(self, page, computed):
        assert one(page).computed_prompt_tokens == computed

    def test_hits_of_prompts_that_are_still_being_read_never_make_them_negative(self):
        page = "vllm:prompt_tokens_total 100\nvllm:prefix_cache_hits_total 130\n"
        assert one(page).computed_prompt_tokens == 0

    @pytest.mark.parametrize(
        ("unit", "computed"), [("cached blocks", 52), ("cached tokens", 97), ("something else", None)]
    )
    def test_the_unit_of_the_older_name_is_taken_from_its_help(self, unit, computed):
        page = (
            f"# HELP vllm:gpu_prefix_cache_hits_total GPU prefix cache hits, in terms of number of {unit}.\n"
            "vllm:gpu_prefix_cache_hits_total 3\nvllm:prompt_tokens_total 100\n"
            'vllm:cache_config_info{block_size="16",num_gpu_blocks="9"} 1.0\n'
        )
        assert one(page).computed_prompt_tokens == computed


@pytest.mark.parametrize(("awake", "sleeping"), [("1.0", False), ("0.0", True), ("NaN", False)])
def test_a_server_sleeps_when_it_says_that_it_is_not_awake(awake, sleeping):
    page = (
        f'vllm:engine_sleep_state{{engine="0",sleep_state="awake"}} {awake}\n'
        'vllm:engine_sleep_state{engine="0",sleep_state="weights_offloaded"} 0.0\n'
        "vllm:num_requests_running 0\n"
    )
    assert one(page).sleeping is sleeping


@pytest.mark.parametrize(
    ("page", "what_to_do"),
    [
        ("# HELP python_info P.\n# TYPE python_info gauge\npython_info 1.0\n", "--disable-log-stats"),
        ("", "--disable-log-stats"),
        ("# TYPE sglang:token_usage gauge\nsglang:token_usage 0.1\n", "SGLang"),
        ("# TYPE trtllm_kv_cache_utilization gauge\ntrtllm_kv_cache_utilization 0.1\n", "TensorRT-LLM"),
        ("# HELP vllm:num_requests_running R.\n# TYPE vllm:num_requests_running gauge\n", "Try again"),
        ("<html></html>", "login page"),
    ],
)
def test_a_page_that_is_not_vllm_s_says_what_to_do(page, what_to_do):
    with pytest.raises(MetricsError, match=what_to_do):
        read_vllm(page)
