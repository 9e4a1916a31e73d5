"""Picks the wanted samples out of a page in the Prometheus text format, and refuses what is no such page."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from concur_agents.errors import MetricsError

if TYPE_CHECKING:
    from collections.abc import Mapping

# The longest line a real server sends is `vllm:cache_config_info`, 1.3 KB on vLLM 0.32. The parser's time grows
# with the square of a line's length, so that one absurd line could hold up the whole event loop.
_LONGEST_LINE = 16 * 1024

# A page of 64 vLLM engines has about 1,200 wanted series.
_SERIES_KEPT = 2048


class Sample(NamedTuple):
    """One line of a page.

    Attributes:
        name: The name as written, `_total`, `_sum` and the like included.
        labels: The label values by label name.
        value: The value; may be NaN or infinite.
    """

    name: str
    labels: Mapping[str, str]
    value: float


def wanted_samples(text: str, wanted: frozenset[str]) -> list[Sample]:
    """Reads the samples whose name is wanted; all other lines are passed over unread.

    A page of 64 engines has 24,000 lines, of which about 1,200 are wanted, and their label sets are the same at
    every poll: so lines are chosen by name before anything is parsed, and parsed label sets are kept.

    Args:
        text: A page in the Prometheus text format 0.0.4.
        wanted: Names of samples as they stand on the page, for example "vllm:prompt_tokens_total".

    Returns:
        The wanted samples, in the order of the page; none if the page is good but has none of them.

    Raises:
        MetricsError: If the text is something else (HTML, JSON, binary data, plain text), was cut off, or a
            wanted line cannot be read. One bad wanted line fails the page, as it does in Prometheus: a value that
            is dropped in silence would look like a counter that went down, which means a restarted server.
    """
    _refuse_other_formats(text)
    lines = text.split("\n")
    samples = []
    for line in [line for line in lines if _name(line) in wanted]:
        sample = _read(line)
        if sample is None:
            raise MetricsError(
                f"line {lines.index(line) + 1} of the page, {_name(line)}, is not in the Prometheus text format: "
                "is something between here and the server changing the page?"
            )
        samples.append(sample)
    return samples


def _name(line: str) -> str:
    return line.partition("{")[0].partition(" ")[0]


def _read(line: str) -> Sample | None:
    """The sample that a line says; None if it says none."""
    # A label value may hold any character, but after the labels there is only a value and perhaps a time.
    labels_before, brace, rest = line.rpartition("}")
    series = labels_before + brace
    if not brace:
        series, _, rest = line.partition(" ")
    value, *time = rest.split() or [""]
    if len(line) > _LONGEST_LINE or len(time) > 1 or "_" in value:  # Python reads 1_0 as 10, Prometheus does not
        return None
    try:
        name, labels = _parse_series(series)
        return Sample(name, labels, float(value))
    except (ValueError, IndexError):  # the parser raises both
        return None


@lru_cache(maxsize=_SERIES_KEPT)
def _parse_series(series: str) -> tuple[str, Mapping[str, str]]:
    (family,) = text_string_to_metric_families(f"{series} 0\n")
    (sample,) = family.samples
    return sample.name, MappingProxyType(sample.labels)


def _refuse_other_formats(text: str) -> None:
    start = text[:4096].lstrip("\ufeff \t\r\n")
    if start.startswith("<"):
        raise MetricsError(
            "a web page (HTML) came instead of metrics: is this a web page or a proxy's login page? "
            "Give the inference server's own address"
        )
    if start.startswith(("{", "[")):
        raise MetricsError(
            "JSON came instead of metrics: give the server's own address, under which it has /metrics, "
            "not the address of an API"
        )
    if "\0" in text:
        raise MetricsError("binary data came instead of metrics: is this port another program's?")
    if not _begins_as_metrics(text):
        raise MetricsError("plain text came that is no metrics page: is this port another program's?")
    if start and not text.endswith("\n"):
        # The format wants the last line to be ended. Half a number would look like a counter that went down.
        raise MetricsError("the page stops in the middle of a line: the server or a proxy cut it off")


def _begins_as_metrics(text: str) -> bool:
    """Whether the first line that says anything is one of the format; so too with a text that says nothing."""
    for line in text[:_LONGEST_LINE].split("\n"):
        stripped = line.strip()
        if stripped.startswith(("# HELP ", "# TYPE ")):
            return True
        if stripped and not stripped.startswith("#"):
            return _read(stripped) is not None
    return True
