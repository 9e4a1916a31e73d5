"""Judges the size of the cache: how many agents fit, and whether the scheduler lets as many run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from concur_agents.control.share import SHARE
from concur_agents.doctor.evidence import at, count_in, plain
from concur_agents.doctor.findings import Finding

if TYPE_CHECKING:
    from concur_agents.doctor.evidence import Evidence

LONGEST_UNKNOWN = 131_072
"""Stands for the longest context where the server does not tell it. [tokens]"""

DEFAULT_SEQS = 256
"""vLLM's lowest default of --max-num-seqs on GPUs (0.32 engine/arg_utils.py `get_batch_defaults`)."""


def capacity_tokens(evidence: Evidence) -> float | None:
    """What fits all engines together; None if any of them does not tell. [KV tokens]"""
    told = [reading.capacity_tokens for reading in evidence.readings if reading.capacity_tokens is not None]
    return sum(told) if told and len(told) == len(evidence.readings) else None


def agents_that_fit(evidence: Evidence) -> dict[int, int]:
    """How many agents of some sizes a gate would have active at once, by their context in tokens.

    Where the longest context is not told, sizes are left out that no engine holds.
    Each engine by itself holds SHARE · capacity / context of them, and a gate always lets one in.
    """
    longest = evidence.max_model_len or LONGEST_UNKNOWN
    sizes = sorted({longest, longest // 4, longest // 16} - {0})
    caches = [reading.capacity_tokens or 0.0 for reading in evidence.readings]
    if evidence.max_model_len is None:
        sizes = [size for size in sizes if size <= max(caches)] or sizes[:1]
    return {size: max(1, sum(int(SHARE * cache / size) for cache in caches)) for size in sizes}


def judge_capacity(evidence: Evidence) -> list[Finding]:
    """Tell how much fits.

    Args:
        evidence: What was asked and answered.
    """
    capacity = capacity_tokens(evidence)
    if capacity is None:
        return _scheduler(evidence, None)  # that it is missing is told with the metrics
    fit = agents_that_fit(evidence)
    block = evidence.readings[0].block_size
    agents = ", ".join(f"{count:,} of {size:,} tokens" for size, count in fit.items())
    longest = max(fit)
    says = (
        f"the cache holds {capacity:,.0f} tokens{f' in blocks of {block:,}' if block else ''}; "
        f"a gate fills {SHARE:.0%} of it with active agents: {agents}"
    )
    if fit[longest] < 2 and evidence.max_model_len is not None:
        do = (
            f"contexts near the longest ({longest:,}) run one at a time: if agents get there, give the cache more "
            "memory (--gpu-memory-utilization, --kv-cache-dtype fp8, more GPUs)"
        )
        return [Finding("capacity", "note", says, do), *_scheduler(evidence, capacity)]
    return [Finding("capacity", "ok", says), *_scheduler(evidence, capacity)]


def _scheduler(evidence: Evidence, capacity: float | None) -> list[Finding]:
    told = at(evidence.server_info.body, "vllm_config", "scheduler_config") if evidence.server_info.good else None
    seqs, policy = count_in(at(told, "max_num_seqs")), at(told, "policy")
    if seqs is None:
        says = "max_num_seqs and the scheduling policy are not shown by this server"
        if capacity is None:
            return [Finding("scheduler", "note", says)]
        size = SHARE * capacity / len(evidence.readings) / DEFAULT_SEQS
        do = (
            f"nothing, if agents have more than {size:,.0f} tokens of context: vLLM's default of {DEFAULT_SEQS} lets "
            "as many run as fit; else raise --max-num-seqs"
        )
        return [Finding("scheduler", "note", says, do)]
    how = f"at most {seqs:,} requests run at once{f', policy {plain(policy, 20)}' if isinstance(policy, str) else ''}"
    if capacity is None:
        return [Finding("scheduler", "ok", how)]
    size = SHARE * capacity / len(evidence.readings) / seqs
    says = f"{how}: agents of less than {size:,.0f} tokens would queue before the cache is full"
    if size > (evidence.max_model_len or LONGEST_UNKNOWN) / 4:
        return [Finding("scheduler", "warn", says, "raise --max-num-seqs: the cache can hold more agents than may run")]
    return [Finding("scheduler", "ok", says)]
