"""Judges the metrics page: what it says of all that a gate reads, of how many engines, and whether they are awake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from concur_agents.doctor.findings import Finding
from concur_agents.engines.vllm import SAID_AS

if TYPE_CHECKING:
    from concur_agents.doctor.evidence import Evidence
    from concur_agents.doctor.findings import Level

NEEDED: dict[str, tuple[Level, str]] = {
    "usage": ("warn", "aimd and pi cannot see how full the cache is, and places in tool waits are not lent"),
    "capacity_tokens": ("warn", "the size of the cache is learned from its usage, which takes a while"),
    "hits": ("warn", "thrash is seen only where the server reports cached tokens with each answer"),
    "queries": ("warn", "thrash is seen only where the server reports cached tokens with each answer"),
    "running": ("note", "what others run on the server is not seen"),
    "waiting": ("note", "the server's queue is not seen"),
    "preemptions": ("note", "preemptions are not seen"),
    "prompt_tokens": ("note", "whether others use the server is not seen"),
    "computed_prompt_tokens": ("note", "how fast the server reads prompts is not seen, and tool waits not weighed"),
    "generation_tokens": ("note", "output tokens a second are not seen"),
    "block_size": ("note", "reusable tokens are counted as if blocks were of one token"),
}
"""Each value that a gate reads: how much its absence matters, and what is lost with it."""


def found_names(evidence: Evidence) -> dict[str, str | None]:
    """Each value that a gate reads, and the name under which the page says it; None if it does not.

    A value that the page says only through others is there too, under its own name.
    """
    said = {line.partition("{")[0].partition(" ")[0] for line in evidence.page.text.split("\n")}
    found: dict[str, str | None] = {}
    for value in NEEDED:
        there = any(getattr(reading, value) is not None for reading in evidence.readings)
        found[value] = next((name for name in SAID_AS[value] if name in said), value) if there else None
    return found


def judge_metrics(evidence: Evidence) -> list[Finding]:
    """Tell what of the page can be used.

    Args:
        evidence: What was asked and answered.
    """
    if not evidence.readings:
        return []
    found = found_names(evidence)
    missing = [value for value, name in found.items() if name is None]
    findings = [_missing(value) for value in missing if value != "hits" or "queries" not in missing]
    if {"usage", "capacity_tokens"} <= set(missing):
        says = "neither the size of the cache nor its usage is told: the default controller has nothing to go by"
        findings.append(Finding("metrics", "fail", says, "update vLLM, or cap by hand: controller='fixed:16'"))
    if not missing:
        findings = [Finding("metrics", "ok", f"all {len(found)} values that a gate reads are there")]
    elif len(missing) < len(found):
        says = f"{len(found) - len(missing)} of the {len(found)} values that a gate reads are there"
        findings.insert(0, Finding("metrics", "ok", says))
    return findings + _engines(evidence) + _sleeping(evidence)


def _missing(value: str) -> Finding:
    level, lost = NEEDED[value]
    names = [name for name in SAID_AS[value] if not name.endswith("_total")]
    says = f"the page does not say {value} ({' or '.join(names[:2])}): {lost}"
    return Finding("metrics", level, says, "newer vLLM releases say it")


def _engines(evidence: Evidence) -> list[Finding]:
    count = len(evidence.readings)
    if count < 2:
        return []
    says = f"{count} data-parallel engines behind one address; a gate adds their caches and brakes on the worst"
    do = (
        "an agent whose turns go to another engine each time finds nothing in its cache: put a router that keeps a "
        "session on its engine before them (X-Session-ID), or give each engine an address of its own"
    )
    return [Finding("engines", "note", says, do)]


def _sleeping(evidence: Evidence) -> list[Finding]:
    asleep = [reading.engine for reading in evidence.readings if reading.sleeping]
    if not asleep:
        return []
    who = "the server sleeps" if len(asleep) == len(evidence.readings) else f"engines {', '.join(asleep)} sleep"
    says = f"{who}: a gate lets nobody in until it is awake; no request was sent"
    return [Finding("asleep", "fail", says, f"wake it: curl -X POST {evidence.url}/wake_up")]
