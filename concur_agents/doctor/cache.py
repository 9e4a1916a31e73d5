"""Judges the prefix cache: that it is on, that it works, and that answers tell what they found in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from concur_agents.doctor.findings import Finding
from concur_agents.engines.prometheus import wanted_samples
from concur_agents.errors import MetricsError

if TYPE_CHECKING:
    from concur_agents.doctor.evidence import Evidence, Probe

DEFAULT_BLOCK = 16
"""vLLM's block size on GPUs, where the page does not tell it. [tokens]"""

_CACHE_CONFIG = "vllm:cache_config_info"


def prefix_caching(evidence: Evidence) -> bool | None:
    """Whether the server was started with prefix caching; None if the page does not tell."""
    try:
        configs = wanted_samples(evidence.page.text, frozenset({_CACHE_CONFIG}))
    except MetricsError:
        return None
    said = {config.labels.get("enable_prefix_caching") for config in configs} & {"True", "False"}
    return None if not said else said == {"True"}


def judge_cache(evidence: Evidence) -> list[Finding]:
    """Tell whether agents find their contexts again.

    Args:
        evidence: What was asked and answered.
    """
    on, probe = prefix_caching(evidence), evidence.probe
    findings = []
    if on is False:
        says = "prefix caching is off: every turn reads its whole context again, and a gate has nothing to protect"
        findings.append(Finding("prefix-caching", "fail", says, "start vLLM with --enable-prefix-caching"))
    elif on:
        findings.append(Finding("prefix-caching", "ok", "prefix caching is on"))
    if probe is None:
        return findings + _untested(evidence)
    if probe.failed is not None:
        return [*findings, _refused(probe)]
    if on is False:
        return [*findings, *_usage(probe)]
    return [*findings, _works(probe, engines=len(evidence.readings)), *_usage(probe)]


def _untested(evidence: Evidence) -> list[Finding]:
    if not evidence.requests:
        do = "leave --no-requests out: it takes a few completions of one token"
        return [Finding("prefix-test", "note", "not made: no request was to be sent", do)]
    if evidence.models.refused or any(reading.sleeping for reading in evidence.readings):
        return []  # told already
    if evidence.model is None:
        return [Finding("prefix-test", "warn", "not made: there is no model to ask", "give the server's own address")]
    says = "not made: the longest context that the server takes has no room for a whole block of its cache"
    return [Finding("prefix-test", "warn", says, "start vLLM with a larger --max-model-len")]


def _refused(probe: Probe) -> Finding:
    failed = probe.failed
    assert failed is not None  # noqa: S101  narrows the type
    says = f"a completion of one token was not served: {failed.outcome}"
    if failed.refused:
        do = "set the environment variable OPENAI_API_KEY to a key that may use the server"
        return Finding("api-key", "fail", says, do)
    if failed.status in {429, 503}:
        return Finding("prefix-test", "warn", says, "the server turns requests away: look again when it has less to do")
    if failed.status is None:
        return Finding("prefix-test", "warn", says, "its queue is long, or it is stuck: look at its log, then again")
    return Finding("prefix-test", "warn", says, "the cache could not be tried: look whether this model takes prompts")


def _works(probe: Probe, *, engines: int) -> Finding:
    """The verdict of the answers, which speak of our requests alone; without it, that of the counters."""
    sent = f"a new prompt of {probe.prompt_tokens:,} tokens was sent again"
    foreign = probe.foreign_tokens
    others = f", {foreign:,.0f} prompt tokens of others came in between" if foreign else ""
    cached, hits = probe.cached_tokens, probe.grown("hits")
    if cached:
        says = f"the cache works: {sent}, and {cached:,} of {probe.reusable_tokens:,} reusable ones came from the cache"
        return Finding("prefix-test", "ok", says + others)
    if cached is None and hits and not foreign:
        says = f"the cache works: {sent}, and the page counts {hits:,.0f} more hits"
        return Finding("prefix-test", "ok", says)
    if cached is None and (hits is None or foreign):
        says = f"{sent}, but answers do not tell cached tokens, and the page's counters do not tell either{others}"
        do = "start vLLM with --enable-prompt-tokens-details, or look again when nobody else uses the server"
        return Finding("prefix-test", "warn", says, do)
    if engines >= len(probe.replies):
        says = f"{sent}, and nothing came from the cache: each of {engines} engines may have had it once"
        return Finding("prefix-test", "warn", says, "look at one engine by its own address, if it has one")
    says = f"the cache does not work: {sent}, and nothing of it came from the cache{others}"
    do = (
        "is prefix caching on (--enable-prefix-caching), does a load balancer give each request to another server, "
        "or is the cache so full that a prompt is evicted within a second?"
    )
    return Finding("prefix-test", "fail", says, do)


def _usage(probe: Probe) -> list[Finding]:
    findings = []
    if probe.cached_tokens is None:
        says = "answers do not tell cached tokens: a gate sees the hits of all together, not what each agent lost"
        findings.append(Finding("cached-tokens", "warn", says, "start vLLM with --enable-prompt-tokens-details"))
    else:
        findings.append(Finding("cached-tokens", "ok", "answers tell how many tokens came from the cache"))
    if probe.streamed_usage:
        findings.append(Finding("stream-usage", "ok", "streams tell their usage without being asked"))
    elif probe.streamed_usage is False:
        says = "streams tell their usage only when asked: gate.openai(…) asks, other clients may not"
        do = "for other clients send stream_options={'include_usage': True}, or start vLLM with "
        findings.append(Finding("stream-usage", "note", says, do + "--enable-force-include-usage"))
    return findings
