"""Asks a server everything in turn, and has the answers judged."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

from concur_agents.doctor.asking import Server
from concur_agents.doctor.cache import DEFAULT_BLOCK, judge_cache
from concur_agents.doctor.capacity import judge_capacity
from concur_agents.doctor.evidence import NOT_ASKED, Evidence, Probe
from concur_agents.doctor.facts import facts_of
from concur_agents.doctor.findings import Report
from concur_agents.doctor.metrics import judge_metrics
from concur_agents.doctor.polling import judge_polling
from concur_agents.doctor.reach import judge_reach

POLLS = 10
POLL_PAUSE_S = 0.1
"""Between two looks: ten of them take a second or two. [s]"""

SETTLE_LOOKS = 20
"""Counters follow a request within an engine step, and pages of several processes within a second or so: so many looks
are made for them after the prefix test."""

PROBE_TOKENS = 256
"""Least length of the prefix test's prompt; four blocks, if that is more. [tokens]"""

MOST_PROBE_TOKENS = 16_384
"""Whatever a page says of its blocks; those of hybrid models have some thousand tokens."""

MOST_REPEATS = 8
"""With several engines the prompt is repeated until one engine must have had it twice, but not more often."""

IDS = range(100, 250)
"""Token ids that every vocabulary has, clear of the special ones at either end. Two random blocks of 16 agree once in
150^16, so that the prompt is new to any cache."""


async def examine(url: str, *, api_key: str | None = None, requests: bool = True) -> Report:
    """Look at a server.

    It is asked for pages only, and with `requests` for a few completions of one token, of a prompt that nobody else
    has: some hundred tokens of its cache are filled with what will never be asked for again.

    Args:
        url: Its address, as a gate takes it.
        api_key: For its OpenAI API; never shown.
        requests: Whether completions may be sent.

    Returns:
        What was found. Whatever the server does is a finding, not an error.

    Raises:
        ValueError: If `url` is no http or https address.
    """
    async with Server(url, api_key=api_key) as server:
        evidence = await _gather(server, requests=requests)
    return judge(evidence)


def judge(evidence: Evidence) -> Report:
    """Tell what answers mean.

    Args:
        evidence: What was asked and answered.
    """
    findings = judge_reach(evidence) + judge_metrics(evidence)
    if evidence.readings:
        findings += judge_capacity(evidence) + judge_cache(evidence) + judge_polling(evidence)
    return Report(evidence.url, tuple(findings), facts_of(evidence))


async def _gather(server: Server, *, requests: bool) -> Evidence:
    first = await server.poll()
    version, models = await asyncio.gather(server.look("/version"), server.look("/v1/models"))
    # Only a vLLM has it, and only in development mode.
    info = await server.look("/server_info", query="config_format=json") if version.good else NOT_ASKED
    polls = [first]
    if first.readings:
        for _ in range(POLLS - 1):
            await asyncio.sleep(POLL_PAUSE_S)
            polls.append(await server.poll())
    evidence = Evidence(
        url=server.url,
        polls=tuple(polls),
        version=version,
        models=models,
        server_info=info,
        has_key=server.has_key,
        requests=requests,
    )
    if not requests or not _may_be_asked(evidence):
        return evidence
    return replace(evidence, probe=await _probe(server, evidence))


def _may_be_asked(evidence: Evidence) -> bool:
    """Whether a request can help: of a vLLM, maybe one before its first step, that has a model and is awake."""
    asleep = any(reading.sleeping for reading in evidence.readings)
    return evidence.model is not None and "vllm:" in evidence.page.text and not asleep


async def _probe(server: Server, evidence: Evidence) -> Probe | None:
    block = max((reading.block_size or 0 for reading in evidence.readings), default=0) or DEFAULT_BLOCK
    tokens = min(max(PROBE_TOKENS, 4 * block) + 1, (evidence.max_model_len or MOST_PROBE_TOKENS) - 1, MOST_PROBE_TOKENS)
    reusable = (tokens - 1) // block * block
    if reusable <= 0:
        return None
    body = {"model": evidence.model, "prompt": Random().choices(IDS, k=tokens), "max_tokens": 1}  # noqa: S311  filler
    engines = len(evidence.readings)
    # A vLLM with data parallelism gives the request to the engine of that rank (0.32 generate/base/serving.py).
    headers = {"X-data-parallel-rank": "0"} if engines > 1 else {}
    reply, streamed_usage = await server.stream(body, headers)
    replies = [reply]
    for _ in range(min(max(1, engines), MOST_REPEATS)):
        if replies[-1].good:
            replies.append(await server.complete(body, headers))
    probe = Probe(tokens, reusable, tuple(replies), streamed_usage, before=evidence.page, after=evidence.page)
    return await _settled(server, probe)


async def _settled(server: Server, probe: Probe) -> Probe:
    """The probe with the page after it, when its counters tell of all that was sent, or no more changes."""
    for _ in range(SETTLE_LOOKS):
        probe = replace(probe, after=await server.poll())
        if probe.failed or probe.counted:
            break
        await asyncio.sleep(POLL_PAUSE_S)
    return probe
