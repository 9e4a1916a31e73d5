"""Of a page in the Prometheus text format only the wanted lines are read; anything else is refused by name."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concur_agents.engines.prometheus import wanted_samples
from concur_agents.errors import MetricsError

WANTED = frozenset({"vllm:running", "vllm:tokens_total"})


def test_only_wanted_names_are_read_in_the_order_of_the_page():
    page = (
        "# HELP vllm:running Running.\n"
        "# TYPE vllm:running gauge\n"
        'vllm:running{engine="0",model_name="m"} 3.0\n'
        "vllm:running_before 9.0\n"
        "vllm:tokens_created 1.7e+09\n"
        'vllm:tokens_total{engine="0"} 1.403502e+06\n'
        "python_info 1.0\n"
    )
    samples = wanted_samples(page, WANTED)
    assert [(s.name, dict(s.labels), s.value) for s in samples] == [
        ("vllm:running", {"engine": "0", "model_name": "m"}, 3.0),
        ("vllm:tokens_total", {"engine": "0"}, 1403502.0),
    ]


def test_a_line_that_nobody_wants_may_be_nonsense():
    assert [s.value for s in wanted_samples('vllm:running 3\nother{x="} y} z\n', WANTED)] == [3.0]


@pytest.mark.parametrize(
    ("written", "value"),
    [("3", 3), ("1.403502e+06", 1403502), ("3.7e-05", 3.7e-05), ("+Inf", math.inf), ("-Inf", -math.inf)],
)
def test_a_value_may_be_written_in_any_way_of_the_format(written, value):
    (sample,) = wanted_samples(f"vllm:running {written}\n", WANTED)
    assert sample.value == value


def test_nan_is_handed_on_as_nan():
    (sample,) = wanted_samples("vllm:running NaN\n", WANTED)
    assert math.isnan(sample.value)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_time_after_the_value_and_either_line_end_are_fine(ending):
    (sample,) = wanted_samples(f'vllm:running{{engine="0"}} 3 1700000000000{ending}', WANTED)
    assert sample.value == 3


def test_label_values_may_hold_braces_blanks_quotes_and_line_separators():
    (sample,) = wanted_samples('vllm:running{model_name="a} b,{\\"c\\"\\n\u2028",engine="1"} 3\n', WANTED)
    assert sample.labels == {"model_name": 'a} b,{"c"\n\u2028', "engine": "1"}


def test_labels_that_are_remembered_cannot_be_changed_by_a_reader():
    (sample,) = wanted_samples('vllm:running{engine="0"} 3\n', WANTED)
    with pytest.raises(TypeError):
        sample.labels["engine"] = "1"


@pytest.mark.parametrize("page", ["", "\n\n", "# only a comment\n", "# HELP a A.\n# TYPE a gauge\na 1.0\n"])
def test_a_good_page_without_a_wanted_line_has_no_samples(page):
    assert wanted_samples(page, WANTED) == []


@pytest.mark.parametrize(
    ("text", "what_it_is"),
    [
        ("<!DOCTYPE html><html><body>Sign in</body></html>", "login page"),
        ("\ufeff \n <html>\n", "HTML"),
        ('<?xml version="1.0"?><Error/>', "HTML"),
        ('{"detail":"Not Found"}', "JSON"),
        ("[1, 2]\n", "JSON"),
        ("\x1f\x8b\x08\0\0\n", "binary"),
        ("Ollama is running", "plain text"),
        ("Not Found\n", "plain text"),
        ("# welcome\nHTTP/1.1 200 OK\n", "plain text"),
    ],
)
def test_what_is_no_metrics_page_is_called_by_its_name(text, what_it_is):
    with pytest.raises(MetricsError, match=what_it_is):
        wanted_samples(text, WANTED)


@pytest.mark.parametrize(
    "line",
    [
        "vllm:running",
        "vllm:running ",
        "vllm:running three",
        "vllm:running 3 4 5",
        "vllm:running 1_0",
        'vllm:running{engine="0" 3',
        "vllm:running{engine=0} 3",
        'vllm:running{engine="0"}',
        'vllm:running{engine="0",engine="1"} 3',
        'vllm:running{a="b", ="c"} 3',
        'vllm:running{model_name="' + "x" * 20_000 + '"} 3',
    ],
    ids=lambda line: line[:40],
)
def test_one_bad_wanted_line_fails_the_page_and_is_pointed_at(line):
    with pytest.raises(MetricsError, match=r"line 3 of the page, vllm:running") as caught:
        wanted_samples(f"# HELP a A.\nvllm:tokens_total 5\n{line}\n", WANTED)
    assert len(str(caught.value)) < 300


def test_a_page_that_was_cut_off_is_refused_rather_than_read_as_a_smaller_number():
    with pytest.raises(MetricsError, match="cut it off"):
        wanted_samples("# HELP a A.\nvllm:tokens_total 12", WANTED)


def test_a_line_with_a_million_labels_is_refused_without_being_parsed(monkeypatch):
    def fail(series):
        raise AssertionError("parsed")

    monkeypatch.setattr("concur_agents.engines.prometheus._parse_series", fail)
    labels = ",".join(f'l{i}="x"' for i in range(100_000))
    with pytest.raises(MetricsError, match="line 2"):
        wanted_samples(f"# HELP a A.\nvllm:running{{{labels}}} 3\n", WANTED)


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from('vllm:running{}="\\, \t0123.e+-_#\u2028aZ'), max_size=60))
def test_whatever_stands_on_a_wanted_line_gives_a_sample_or_a_metrics_error(rest):
    try:
        samples = wanted_samples(f"# HELP a A.\nvllm:running{rest}\n", WANTED)
    except MetricsError:
        return
    assert all(isinstance(sample.value, float) for sample in samples)


@settings(deadline=None)
@given(st.text())
def test_whatever_the_text_nothing_but_a_metrics_error_is_raised(text):
    with suppress(MetricsError):
        wanted_samples(text, WANTED)
