"""Judges the looks at the metrics page: how fast, how large, always of the same server, and moving."""

from __future__ import annotations

from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING

from concur_agents.doctor.findings import Finding
from concur_agents.engines import Window
from concur_agents.engines.prometheus import wanted_samples
from concur_agents.errors import MetricsError

if TYPE_CHECKING:
    from concur_agents.doctor.evidence import Evidence, Poll

POLL_INTERVAL_S = 1.0
"""The gate's default pause between two looks. [s]"""

CLOCK_TOLERANCE_S = 5.0
"""`Date` has whole seconds, and an answer may have waited for a busy server. [s]"""

FULL = 0.9
"""Usage from which others leave too little of the cache to judge anything by."""

_STARTED = "process_start_time_seconds"


def restarts(evidence: Evidence) -> int:
    """How often counters went down from one look to the next: each time another server or a new one answered."""
    window, seen = Window(), 0
    for poll in _looks(evidence):
        if poll.readings:
            seen = window.add(poll.time, poll.readings).restarts
    return seen


def uptime_s(evidence: Evidence) -> float | None:
    """How long the server has been up, on its own clock; None if it does not tell. [s]"""
    clock = evidence.version.server_time
    if clock is None:
        return None
    try:
        said = wanted_samples(evidence.page.text, frozenset({_STARTED}))
    except MetricsError:
        return None
    starts = [sample.value for sample in said if 0 <= sample.value <= clock]
    return clock - max(starts) if starts else None


def judge_polling(evidence: Evidence) -> list[Finding]:
    """Tell how well the server can be watched.

    Args:
        evidence: What was asked and answered.
    """
    return [*_latency(evidence), *_restarts(evidence), *_moving(evidence), *_traffic(evidence), *_clock(evidence)]


def _looks(evidence: Evidence) -> list[Poll]:
    return [*evidence.polls, *([evidence.probe.after] if evidence.probe else [])]


def _latency(evidence: Evidence) -> list[Finding]:
    good = [poll for poll in evidence.polls if poll.readings]
    bad = [poll for poll in evidence.polls if not poll.readings]
    if not good:
        return []  # before its first step a vLLM is looked at once
    times = [poll.took_s for poll in good]
    says = (
        f"a look at the page takes {1e3 * median(times):,.0f} ms "
        f"(the longest of {len(good)}: {1e3 * max(times):,.0f}); it has {len(good[-1].text) / 1e3:,.0f} kB"
    )
    if bad:
        says = f"{len(bad)} of {len(evidence.polls)} looks failed ({bad[-1].error}); {says}"
        do = "a gate bridges such gaps, but sees less: look at the server's log and at what lies between"
        return [Finding("polling", "warn", says, do)]
    if max(times) > POLL_INTERVAL_S:
        do = "the server is overloaded or far away: run the gate nearer to it, or set poll_interval_s=5"
        return [Finding("polling", "warn", says, do)]
    return [Finding("polling", "ok", says)]


def _restarts(evidence: Evidence) -> list[Finding]:
    seen, up = restarts(evidence), uptime_s(evidence)
    since = "" if up is None else f"up for {timedelta(seconds=round(up))}"
    if seen:
        says = f"counters went down {seen} times while we looked{f'; {since}' if since else ''}"
        do = "if it did not restart, several servers answer in turn: give the address of each, not a load balancer's"
        return [Finding("restarts", "fail" if seen > 1 else "warn", says, do)]
    return [Finding("restarts", "ok", f"{f'{since}, ' if since else ''}the same server each time")]


def _moving(evidence: Evidence) -> list[Finding]:
    probe = evidence.probe
    if probe is None or probe.failed or probe.grown("prompt_tokens") is None:
        return []
    if probe.counted:
        return [Finding("counters", "ok", "the page counted the requests of the prefix test")]
    grown = probe.grown("prompt_tokens") or 0.0
    says = f"{probe.sent_tokens:,} prompt tokens were served, but the page counted {grown:,.0f}"
    do = (
        "requests and metrics come from different servers, as behind a load balancer: give the address of one vLLM "
        "to the gate and to the agents"
    )
    return [Finding("counters", "fail", says, do)]


def _traffic(evidence: Evidence) -> list[Finding]:
    readings = evidence.polls[-1].readings
    running = sum(reading.running or 0 for reading in readings)
    waiting = sum(reading.waiting or 0 for reading in readings)
    if not running and not waiting:
        return []
    usage = max((reading.usage or 0.0 for reading in readings), default=0.0)
    says = f"others use the server: {running:,.0f} requests run, {waiting:,.0f} wait, {usage:.0%} of the cache is held"
    if usage > FULL:
        do = "a gate sees what they take, but cannot hold them: little is left for your agents"
        return [Finding("traffic", "warn", says, do)]
    return [Finding("traffic", "note", says, "a gate takes what they hold into account, but cannot hold them")]


def _clock(evidence: Evidence) -> list[Finding]:
    ahead = evidence.version.clock_ahead_s
    if ahead is None:
        return []
    if abs(ahead) <= CLOCK_TOLERANCE_S:
        return [Finding("clock", "ok", "the server's clock agrees with this machine's")]
    says = f"the server's clock is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    do = "a gate does not mind, it uses its own clock; logs of both will not line up until one is set (NTP)"
    return [Finding("clock", "note", says, do)]
