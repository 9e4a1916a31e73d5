"""The engine's metrics page, with the names, labels and format of vLLM 0.32's (v1/metrics/loggers.py).

The text around the numbers is made once, for a page is read at every poll.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from concur_agents.simulation.counters import Counters
    from concur_agents.simulation.engine import Engine

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Metric(NamedTuple):
    """A metric.

    Attributes:
        name: Without `vllm:` and `_total`.
        kind: counter, gauge or histogram.
        text: Its HELP line.
        lines: For each line: more labels, and the value's name; "" is 0 and "1" is 1. Of a histogram: sum and count.
    """

    name: str
    kind: str
    text: str
    lines: tuple[tuple[str, str], ...]


def _gauge(name: str, text: str, *lines: tuple[str, str]) -> _Metric:
    return _Metric(name, "gauge", text, lines or (("", name),))


def _counter(name: str, text: str, *lines: tuple[str, str]) -> _Metric:
    return _Metric(name, "counter", text, lines or (("", name),))


def _histogram(name: str, text: str, total: str, count: str = "request_success") -> _Metric:
    return _Metric(name, "histogram", text, (("", total), ("", count)))


_EXTERNAL = "from KV connector cross-instance cache sharing, in terms of number of"
_METRICS = (
    _gauge("num_requests_running", "Number of requests in model execution batches."),
    _gauge("num_requests_waiting", "Number of requests waiting to be processed."),
    _gauge(
        "num_requests_waiting_by_reason",
        "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; "
        "'deferred' = deferred by transient constraints (LoRA budget, KV transfer, blocked status). "
        "Sum of all reasons equals vllm:num_requests_waiting.",
        (',reason="capacity"', "num_requests_waiting"),
        (',reason="deferred"', ""),
    ),
    _gauge(
        "engine_sleep_state",
        "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; "
        "weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2.",
        (',sleep_state="awake"', "1"),
        (',sleep_state="weights_offloaded"', ""),
        (',sleep_state="discard_all"', ""),
    ),
    _gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage."),
    _counter("prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens."),
    _counter("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens."),
    _counter("external_prefix_cache_queries", f"External prefix cache queries {_EXTERNAL} queried tokens.", ("", "")),
    _counter("external_prefix_cache_hits", f"External prefix cache hits {_EXTERNAL} cached tokens.", ("", "")),
    _counter("num_preemptions", "Cumulative number of preemption from the engine."),
    _counter("prompt_tokens", "Number of prefill tokens processed."),
    _counter(
        "prompt_tokens_by_source",
        "Number of prompt tokens by source.",
        (',source="local_compute"', "prompt_tokens_computed"),
        (',source="local_cache_hit"', "prompt_tokens_cached"),
        (',source="external_kv_transfer"', ""),
    ),
    _counter("prompt_tokens_cached", "Number of cached prompt tokens (local + external)."),
    _counter(
        "prompt_tokens_cached_by_source",
        "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host (offloaded to DRAM), "
        "disk, p2p (transferred from another vLLM instance) or external_unspecified. Counted at admission; sums to "
        "vllm:prefix_cache_hits + vllm:external_prefix_cache_hits.",
        (',source="device"', "prefix_cache_hits"),
        (',source="host"', ""),
        (',source="p2p"', ""),
        (',source="disk"', ""),
        (',source="external_unspecified"', ""),
    ),
    _counter("generation_tokens", "Number of generation tokens processed."),
    _counter(
        "request_success",
        "Count of successfully processed requests.",
        (',finished_reason="stop"', "stop"),
        (',finished_reason="length"', "length"),
        (',finished_reason="abort"', ""),
        (',finished_reason="error"', ""),
        (',finished_reason="repetition"', ""),
    ),
    _histogram("request_prompt_tokens", "Number of prefill tokens processed.", "request_prompt_tokens"),
    _histogram("request_generation_tokens", "Number of generation tokens processed.", "request_generation_tokens"),
    _histogram(
        "iteration_tokens_total", "Histogram of number of tokens per engine_step.", "iteration_tokens", "iterations"
    ),
    _histogram(
        "time_to_first_token_seconds",
        "Histogram of time to first token in seconds.",
        "time_to_first_token_seconds",
        "first_tokens",
    ),
    *(
        _histogram(name, text, name)
        for name, text in (
            (
                "request_time_per_output_token_seconds",
                "Histogram of time_per_output_token_seconds per request.",
            ),
            ("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds."),
            ("request_queue_time_seconds", "Histogram of time spent in WAITING phase for request."),
            ("request_inference_time_seconds", "Histogram of time spent in RUNNING phase for request."),
            ("request_prefill_time_seconds", "Histogram of time spent in PREFILL phase for request."),
            ("request_decode_time_seconds", "Histogram of time spent in DECODE phase for request."),
            ("request_num_preemptions", "Histogram of the number of times a request was preempted."),
            (
                "request_prefill_kv_computed_tokens",
                "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
            ),
        )
    ),
)


class MetricsPage:
    """Writes the page of one engine.

    Histograms have the one bucket that every histogram has, `+Inf`, beside their sum and count.

    Args:
        engine: The engine; its sizes are told as vLLM tells its cache configuration.
        model: Name of the model.
        created: When the counters began, as a Unix time. [s]
    """

    def __init__(self, engine: Engine, *, model: str, created: float) -> None:
        self._names: list[str] = []
        labels = f'engine="0",model_name="{_escaped(model)}"'
        self._template = "".join(
            [*(self._template_of(metric, labels, _number(created)) for metric in _METRICS), _cache_config(engine)]
        )

    def render(self, counters: Counters, *, stopped: int = 0) -> str:
        """The page.

        Args:
            counters: As of now.
            stopped: Requests that ended by themselves, which the engine cannot tell from those that were cut.
        """
        own = {"stop": stopped, "length": counters.request_success - stopped}
        return self._template % tuple(
            [_number(own[name] if name in own else getattr(counters, name)) for name in self._names]
        )

    def _template_of(self, metric: _Metric, labels: str, created: str) -> str:
        name = f"vllm:{metric.name}"
        shown = f"{name}_total" if metric.kind == "counter" else name
        text = metric.text.replace("%", "%%")
        labels = labels.replace("%", "%%")
        lines = [f"# HELP {shown} {text}", f"# TYPE {shown} {metric.kind}"]
        if metric.kind == "histogram":
            (_, total), (_, count) = metric.lines
            self._names += (count, count, total)
            lines += (
                f'{name}_bucket{{engine="0",le="+Inf",{labels.partition(",")[2]}}} %s',
                f"{name}_count{{{labels}}} %s",
                f"{name}_sum{{{labels}}} %s",
            )
        else:
            lines += (f"{shown}{{{labels}{more}}} {self._placeholder(value)}" for more, value in metric.lines)
        if metric.kind != "gauge":
            lines += (f"# HELP {name}_created {text}", f"# TYPE {name}_created gauge")
            lines += dict.fromkeys(f"{name}_created{{{labels}{more}}} {created}" for more, _ in metric.lines)
        return "\n".join(lines) + "\n"

    def _placeholder(self, value: str) -> str:
        if value in {"", "1"}:
            return f"{value or 0}.0"
        self._names.append(value)
        return "%s"


def _cache_config(engine: Engine) -> str:
    # vLLM writes all of its CacheConfig; what has no meaning here is left out.
    labels = {
        "block_size": engine.block_size,
        "enable_prefix_caching": True,
        "engine": 0,
        "kv_cache_max_concurrency": engine.capacity_tokens / engine.max_model_len,
        "kv_cache_size_tokens": engine.capacity_tokens,
        "num_gpu_blocks": engine.blocks,
    }
    told = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return (
        "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n"
        "# TYPE vllm:cache_config_info gauge\n"
        f"vllm:cache_config_info{{{told}}} 1.0\n"
    )


def _number(value: float) -> str:
    """A number as Prometheus clients write it: 40.0, 1.403502e+06, 3.7e-05."""
    text = repr(float(value))
    whole, point, rest = text.partition(".")
    if len(whole) <= 6 or "e" in text or not point:
        return text
    return f"{whole[0]}.{(whole[1:] + rest).rstrip('0') or '0'}e+{len(whole) - 1:02d}"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
