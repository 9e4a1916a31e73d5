"""What one poll of a server costs the event loop: reading its metrics page and adding it to the window.

Run it: `python benchmarks/poll.py`.
"""

from __future__ import annotations

import statistics
import time

from concur_agents.engines import Window, read_vllm

_REPEATS = 15

# As on a page of vLLM 0.32: how many there are of each kind decides how much must be passed over.
_GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
_LABELLED = {
    "num_requests_waiting_by_reason": ("reason", ("capacity", "deferred")),
    "engine_sleep_state": ("sleep_state", ("awake", "weights_offloaded", "discard_all")),
}
_COUNTERS = (
    "estimated_flops_per_gpu",
    "estimated_read_bytes_per_gpu",
    "estimated_write_bytes_per_gpu",
    "prefix_cache_queries",
    "prefix_cache_hits",
    "external_prefix_cache_queries",
    "external_prefix_cache_hits",
    "mm_cache_queries",
    "mm_cache_hits",
    "num_preemptions",
    "prompt_tokens",
    "prompt_tokens_cached",
    "generation_tokens",
)
_SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
_HISTOGRAMS = (
    "request_prompt_tokens",
    "request_generation_tokens",
    "iteration_tokens_total",
    "request_max_num_generation_tokens",
    "request_params_n",
    "request_params_max_tokens",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_inference_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_num_preemptions",
    "request_prefill_kv_computed_tokens",
)
_BUCKETS = (*(0.3 * 1.5**n for n in range(20)), float("inf"))
_CONFIG = ",".join(f'some_cache_setting_{n}="None"' for n in range(36))


def page(engines: int) -> str:
    """A page as a vLLM 0.32 with so many data-parallel engines gives it, in size and make-up."""
    labels = [f'engine="{n}",model_name="Qwen/Qwen3-32B"' for n in range(engines)]
    lines: list[str] = []

    def family(name: str, kind: str, samples: list[str]) -> None:
        lines.extend((f"# HELP vllm:{name} What it is.", f"# TYPE vllm:{name} {kind}", *samples))

    def each(name: str, value: str, extra: str = "") -> list[str]:
        return [f"vllm:{name}{{{one}{extra}}} {value}" for one in labels]

    for name in _GAUGES:
        family(name, "gauge", each(name, "0.5"))
    for name, (label, values) in _LABELLED.items():
        family(name, "gauge", [line for value in values for line in each(name, "1.0", f',{label}="{value}"')])
    for name in _COUNTERS:
        family(f"{name}_total", "counter", each(f"{name}_total", "1.403502e+06"))
        family(f"{name}_created", "gauge", each(f"{name}_created", "1.7953108878191526e+09"))
    by_source = "prompt_tokens_by_source"
    for suffix in ("total", "created"):
        sources = (each(f"{by_source}_{suffix}", "1.4e+06", f',source="{source}"') for source in _SOURCES)
        family(f"{by_source}_{suffix}", "counter", [line for lines in sources for line in lines])
    for name in _HISTOGRAMS:
        buckets = (each(f"{name}_bucket", "811.0", f',le="{bound:g}"') for bound in _BUCKETS)
        ends = each(f"{name}_count", "811.0") + each(f"{name}_sum", "288000.0")
        family(name, "histogram", [line for lines in buckets for line in lines] + ends)
    size = 'block_size="16",kv_cache_size_tokens="396800",num_gpu_blocks="25000"'
    family("cache_config_info", "gauge", each("cache_config_info", "1.0", f",{_CONFIG},{size}"))
    return "\n".join(lines) + "\n"


def measure() -> dict[str, float]:
    """Times one poll's share of the event loop.

    Returns:
        For pages of 1 and 64 engines: "… first ms" the first page of the process, "… median ms" a later one,
        "… spread ms" the distance between the quartiles of the later ones.
    """
    figures: dict[str, float] = {}
    for engines in (1, 64):
        name, text = f"{engines} engine{'s' if engines > 1 else ''}", page(engines)
        window = Window()
        times = []
        for poll in range(_REPEATS + 1):
            start = time.perf_counter()
            window.add(float(poll), read_vllm(text))
            times.append((time.perf_counter() - start) * 1000)
        lower, median, upper = statistics.quantiles(times[1:], n=4)
        figures |= {f"{name} first ms": times[0], f"{name} median ms": median, f"{name} spread ms": upper - lower}
    return figures


if __name__ == "__main__":
    print("one poll: page read and added to the window")
    for what, milliseconds in measure().items():
        print(f"  {what:24}{milliseconds:8.2f}")
