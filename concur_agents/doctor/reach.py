"""Judges whether this is a server that a gate can talk to: its address, its key, its version, its models."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from concur_agents.doctor.evidence import model_names, plain
from concur_agents.doctor.findings import Finding

if TYPE_CHECKING:
    from concur_agents.doctor.evidence import Evidence

OLDEST_GOOD = (0, 9)
"""The first vLLM that counts cache look-ups in tokens and has all that a gate wants."""

NEWEST_TRIED = (0, 33)
"""The newest vLLM whose metrics page was read."""

_MODELS_SHOWN = 3


def judge_reach(evidence: Evidence) -> list[Finding]:
    """Tell who answers.

    Args:
        evidence: What was asked and answered.
    """
    page = evidence.page
    if not page.text and page.error and evidence.version.status is None and evidence.models.status is None:
        do = f"start the server, or correct the address: `curl {evidence.url}/metrics` has to show lines with vllm:"
        return [Finding("server", "fail", page.error, do)]
    if not evidence.readings and evidence.probe is not None and evidence.probe.failed is None:
        says = "the server answered requests, and its metrics page still names vLLM's metrics without a value"
        return [Finding("metrics", "fail", says, "start vLLM without --disable-log-stats"), *_models(evidence)]
    if not evidence.readings:
        return [Finding("metrics", "fail", page.error or "no page", _why_no_metrics(evidence)), *_models(evidence)]
    return [_version(evidence), *_models(evidence), *_development_mode(evidence)]


def _why_no_metrics(evidence: Evidence) -> str:
    if "vllm:" in evidence.page.text:
        return "leave --no-requests out, so that it gets one, or look again when it has served a request"
    if evidence.version_text and evidence.models.status is not None:
        return (
            f"it answers as a vLLM {evidence.version_text}: start it without --disable-log-stats, and give its own "
            "address rather than a proxy's, whose /metrics may be kept back"
        )
    if evidence.models.good:
        return (
            "an OpenAI-compatible server answers, but no vLLM: if it is a proxy or a router, give the address of the "
            "vLLM behind it; without one a gate can only count: controller='fixed:16'"
        )
    return (
        "a gate reads /metrics without a key: give the vLLM server's own address; where a password is needed, write "
        "http://user:password@host:port, where a header is, ConcurGate(…, fetch_metrics=…)"
    )


def _version(evidence: Evidence) -> Finding:
    text = evidence.version_text
    if text is None:
        says = f"the server does not tell its version (/version: {evidence.version.outcome})"
        return Finding("version", "note", says, "the metrics below are what counts")
    if "concur" in text or text == "embedded":
        return Finding("version", "note", f"vLLM {text}: the embedded engine, which generates filler text")
    number = re.match(r"(\d+)\.(\d+)", text)
    if number is None:
        return Finding("version", "note", f"vLLM {text}, a version that cannot be placed")
    release = (int(number[1]), int(number[2]))
    if release < OLDEST_GOOD:
        says = f"vLLM {text}: older than 0.9, it tells less of its cache, and in blocks instead of tokens"
        return Finding("version", "warn", says, "a gate works; with vLLM 0.9 or newer it sees more")
    if release > NEWEST_TRIED:
        newest = ".".join(map(str, NEWEST_TRIED))
        says = f"vLLM {text}: newer than {newest}, the last whose metrics were tried"
        return Finding("version", "note", says, "see below whether any metric is missing")
    return Finding("version", "ok", f"vLLM {text}")


def _models(evidence: Evidence) -> list[Finding]:
    models = evidence.models
    if models.refused:
        says = f"the server's OpenAI API refuses {'this' if evidence.has_key else 'to answer without an'} API key"
        do = "set the environment variable OPENAI_API_KEY to the key that the server was started with (--api-key)"
        return [Finding("api-key", "fail", f"{says} ({models.status})", do)]
    names = [plain(name, 80) for name in model_names(models.body)] if models.good else []
    if names:
        more = len(names) - _MODELS_SHOWN
        served = ", ".join(names[:_MODELS_SHOWN]) + (f" and {more} more" if more > 0 else "")
        longest = evidence.max_model_len
        return [Finding("model", "ok", f"serves {served}{f', contexts up to {longest:,} tokens' if longest else ''}")]
    if not evidence.readings:
        return []  # told above: it is no server of models
    says = f"no model is listed (/v1/models: {models.outcome})"
    return [Finding("model", "warn", says, "look whether this is the address that agents are given, and with /v1")]


def _development_mode(evidence: Evidence) -> list[Finding]:
    if not evidence.server_info.good:
        return []
    says = "the server is in development mode: whoever reaches it sees its settings and can put it to sleep"
    return [Finding("development-mode", "note", says, "start it without VLLM_SERVER_DEV_MODE where that matters")]
