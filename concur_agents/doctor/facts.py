"""The figures behind the findings, for machines."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from concur_agents.doctor.cache import prefix_caching
from concur_agents.doctor.capacity import agents_that_fit, capacity_tokens
from concur_agents.doctor.evidence import model_names, plain
from concur_agents.doctor.metrics import found_names
from concur_agents.doctor.polling import restarts, uptime_s

if TYPE_CHECKING:
    from concur_agents.doctor.evidence import Evidence


def facts_of(evidence: Evidence) -> dict[str, Any]:
    """What was measured, as plain JSON values; None stands for what the server does not tell.

    Args:
        evidence: What was asked and answered.
    """
    if not evidence.readings:
        return {"version": evidence.version_text}
    capacity = capacity_tokens(evidence)
    return {
        "version": evidence.version_text,
        "models": [plain(name, 80) for name in model_names(evidence.models.body)],
        "max_model_len": evidence.max_model_len,
        "capacity_tokens": capacity,
        "agents_that_fit": agents_that_fit(evidence) if capacity is not None else None,
        "prefix_caching": prefix_caching(evidence),
        "metrics": found_names(evidence),
        "engines": [
            {
                "engine": reading.engine,
                "capacity_tokens": reading.capacity_tokens,
                "block_size": reading.block_size,
                "usage": reading.usage,
                "running": reading.running,
                "waiting": reading.waiting,
                "sleeping": reading.sleeping,
            }
            for reading in evidence.readings
        ],
        "prefix_test": _prefix_test(evidence),
        "polling": _polling(evidence),
        "uptime_s": uptime_s(evidence),
        "clock_ahead_s": evidence.version.clock_ahead_s,
    }


def _prefix_test(evidence: Evidence) -> dict[str, Any] | None:
    probe = evidence.probe
    if probe is None:
        return None
    return {
        "prompt_tokens": probe.prompt_tokens,
        "reusable_tokens": probe.reusable_tokens,
        "cached_tokens": probe.cached_tokens,
        "hits": probe.grown("hits"),
        "foreign_prompt_tokens": probe.foreign_tokens,
        "streamed_usage": probe.streamed_usage,
    }


def _polling(evidence: Evidence) -> dict[str, Any]:
    times = [poll.took_s for poll in evidence.polls if poll.readings]
    return {
        "looks": len(evidence.polls),
        "failed": sum(not poll.readings for poll in evidence.polls),
        "median_s": median(times) if times else None,
        "max_s": max(times, default=None),
        "page_bytes": len(evidence.page.text.encode()),
        "restarts": restarts(evidence),
    }
