"""Reads a vLLM metrics page, from vLLM 0.6.6 to 0.33: every name under which a value was ever said.

The names are those of vLLM's metrics loggers: `vllm/engine/metrics.py` for the engine before 0.8, `vllm/v1/metrics/
loggers.py` for the one after it. Newer names win where a page has both.
"""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from concur_agents.engines.prometheus import wanted_samples
from concur_agents.engines.snapshot import EngineReading
from concur_agents.errors import MetricsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from concur_agents.engines.prometheus import Sample


@dataclass(frozen=True, slots=True)
class _Source:
    """A name under which a value is said.

    Attributes:
        names: Names of the sample, the better first; a page has one of them.
        join: Makes one value of several lines of one engine, which differ in `model_name`.
        label: A label and the value it must have, where the lines of one name mean different things.
    """

    names: tuple[str, ...]
    join: Callable[[float, float], float] = operator.add
    label: tuple[str, str] | None = None


def _gauge(
    name: str,
    join: Callable[[float, float], float] = operator.add,
    label: tuple[str, str] | None = None,
) -> _Source:
    return _Source((name,), join, label)


def _counter(name: str, label: tuple[str, str] | None = None) -> _Source:
    # Beside `_total` there is a `_created`, the time when the counter was made: it is never read.
    return _Source((f"{name}_total", name), label=label)


# Each value and where it is said, the newest place first.
_SOURCES: dict[str, tuple[_Source, ...]] = {
    # 0.10.2 gives a line for each API server process ("pid"): the highest, not the sum, is the engine's.
    "usage": (_gauge("vllm:kv_cache_usage_perc", max), _gauge("vllm:gpu_cache_usage_perc", max)),
    "running": (_gauge("vllm:num_requests_running"),),
    "waiting": (_gauge("vllm:num_requests_waiting"),),
    "waiting_for_capacity": (_gauge("vllm:num_requests_waiting_by_reason", label=("reason", "capacity")),),
    "awake": (_gauge("vllm:engine_sleep_state", min, label=("sleep_state", "awake")),),
    "queries": (_counter("vllm:prefix_cache_queries"),),
    "hits": (_counter("vllm:prefix_cache_hits"),),
    "old_queries": (_counter("vllm:gpu_prefix_cache_queries"),),
    "old_hits": (_counter("vllm:gpu_prefix_cache_hits"),),
    "external_hits": (_counter("vllm:external_prefix_cache_hits"),),
    "hit_rate_gauge": (_gauge("vllm:gpu_prefix_cache_hit_rate", min),),
    "preemptions": (_counter("vllm:num_preemptions"),),
    "prompt_tokens": (_counter("vllm:prompt_tokens"),),
    # The counter goes with `prompt_tokens`: both move when a prompt has been read. The histogram says the same
    # tokens only when the request is over (vLLM 0.32 v1/metrics/loggers.py, `record`), too late for a window.
    "computed_prompt_tokens": (
        _counter("vllm:prompt_tokens_by_source", label=("source", "local_compute")),
        _gauge("vllm:request_prefill_kv_computed_tokens_sum"),
    ),
    "generation_tokens": (_counter("vllm:generation_tokens"),),
}
_CACHE_CONFIG = "vllm:cache_config_info"

# name of a sample -> (the value it says, its place among the names of that value, where it is said)
_BY_NAME: dict[str, tuple[str, int, _Source]] = {
    name: (value, place, source)
    for value, sources in _SOURCES.items()
    for place, (name, source) in enumerate((name, source) for source in sources for name in source.names)
}
_WANTED = frozenset(_BY_NAME) | {_CACHE_CONFIG}

SAID_AS: dict[str, tuple[str, ...]] = {
    value: tuple(name for one in (value, f"old_{value}") for source in _SOURCES.get(one, ()) for name in source.names)
    for value in _SOURCES
    if value not in {"awake", "external_hits"} and not value.startswith("old_")
} | {"capacity_tokens": (_CACHE_CONFIG,), "block_size": (_CACHE_CONFIG,)}
"""Each value of an `EngineReading` and the names of samples that say it, the better first."""


def read_vllm(text: str) -> tuple[EngineReading, ...]:
    """Reads a vLLM metrics page.

    What a page does not say is None: a missing metric, NaN, an infinite or negative number (vLLM ≤ 0.8 says a hit
    rate of -1 while prefix caching is off). Hits and queries are in tokens since 0.9 and in blocks before, where
    only their ratio is used. Hits are those in the engine's own cache: what an offload tier gave back still had
    to be moved, and is left out of `hits` (but it is not computed, and left out of `computed_prompt_tokens` too).

    Args:
        text: The page, in the Prometheus text format.

    Returns:
        A reading for each data-parallel engine, in the order of their numbers. Before 0.8.5 a page has no engine
        label and gives one reading, of engine "0".

    Raises:
        MetricsError: If this is no metrics page, or one without the metrics of vLLM.
    """
    said: dict[str, dict[str, tuple[int, float]]] = {}
    configs: list[Mapping[str, str]] = []
    for sample in wanted_samples(text, _WANTED):
        if sample.name == _CACHE_CONFIG:
            configs.append(sample.labels)
        else:
            _note(said.setdefault(sample.labels.get("engine", "0"), {}), sample)
    if not said:
        # Before its first step a vLLM ≤ 0.8 says only how its cache is configured.
        said = {labels.get("engine", "0"): {} for labels in configs}
    if not said:
        raise MetricsError(_why_not_vllm(text))
    layout = _layout(configs, len(said))
    return tuple(
        _reading(engine, said[engine], *layout[engine if engine in layout else ""], text)
        for engine in sorted(said, key=lambda engine: (len(engine), engine))
    )


def _note(values: dict[str, tuple[int, float]], sample: Sample) -> None:
    value, place, source = _BY_NAME[sample.name]
    if source.label is not None and sample.labels.get(source.label[0]) != source.label[1]:
        return
    if not math.isfinite(sample.value) or sample.value < 0:
        return
    known = values.get(value)
    if known is None or place < known[0]:
        values[value] = (place, sample.value)
    elif place == known[0]:
        values[value] = (place, source.join(known[1], sample.value))


def _reading(
    engine: str,
    values: Mapping[str, tuple[int, float]],
    capacity: float | None,
    block_size: int | None,
    text: str,
) -> EngineReading:
    said = {value: number for value, (_, number) in values.items()}
    awake, external_hits = said.pop("awake", None), said.pop("external_hits", 0.0)
    old = {value.removeprefix("old_"): said.pop(value) for value in ("old_queries", "old_hits") if value in said}
    tokens_a_hit: int | None = 1
    if "hits" not in said:
        said |= old
        tokens_a_hit = _tokens_a_hit(text, block_size)
    for share in ("usage", "hit_rate_gauge"):
        if share in said:
            said[share] = min(1.0, said[share])
    if "computed_prompt_tokens" not in said and "prompt_tokens" in said and "hits" in said and tokens_a_hit:
        # Hits are counted when a prompt is scheduled, its tokens only when it has been read.
        cached = said["hits"] * tokens_a_hit + external_hits
        said["computed_prompt_tokens"] = max(0.0, said["prompt_tokens"] - cached)
    return EngineReading(engine=engine, sleeping=awake == 0, capacity_tokens=capacity, block_size=block_size, **said)


def _tokens_a_hit(text: str, block_size: int | None) -> int | None:
    # One name, two units: vLLM 0.7.3 and 0.8.5 count blocks, 0.9.2 tokens. Only the HELP line tells.
    if "in terms of number of cached blocks" in text:
        return block_size
    return 1 if "in terms of number of cached tokens" in text else None


def _layout(configs: Iterable[Mapping[str, str]], engines: int) -> defaultdict[str, tuple[float | None, int | None]]:
    """Capacity in tokens and block size by engine; under "" for engines that have no line of their own."""
    layout: defaultdict[str, tuple[float | None, int | None]] = defaultdict(lambda: (None, None))
    for labels in configs:
        block_size = _number(labels.get("block_size"))
        capacity = _number(labels.get("kv_cache_size_tokens"))
        blocks = _number(labels.get("num_gpu_blocks"))
        if capacity is None and blocks is not None and block_size is not None:
            # Each line says the blocks of all engines together, unlike kv_cache_size_tokens
            # (vLLM 0.32 v1/engine/core_client.py: "Sum num_gpu_blocks from all engines in DP case").
            capacity = blocks * block_size / engines
        engine = labels.get("engine", "")
        known_capacity, known_block_size = layout[engine]
        layout[engine] = (
            # A server that was configured twice says both; the smaller cache is the safer belief.
            min((c for c in (known_capacity, capacity) if c is not None), default=None),
            known_block_size or (None if block_size is None else int(block_size)),
        )
    return layout


def _number(label: str | None) -> float | None:
    """A label's number; None for "None", for nonsense, and for nothing."""
    try:
        number = float(label or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def _why_not_vllm(text: str) -> str:
    if "vllm:" in text:
        return (
            "vLLM names its metrics but says no values yet: it has not taken a step since it started. "
            "Try again, or send it one request first; if it still says none, start it without --disable-log-stats"
        )
    for prefix, engine in (("sglang:", "SGLang"), ("trtllm_", "TensorRT-LLM")):
        if prefix in text:
            return f"these are the metrics of {engine}, which cannot be read yet: give the address of a vLLM server"
    if not text.strip():
        return "the metrics page is empty: start vLLM without --disable-log-stats, which takes its metrics away"
    return (
        "a metrics page without a metric of vLLM (vllm:…): if this is vLLM, start it without --disable-log-stats, "
        "which takes its metrics away; if not, the port is another program's"
    )
