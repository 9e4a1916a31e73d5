"""What `concur compare` measured, as the JSON that it writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from concur_agents.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class EngineInfo(BaseModel):
    """The server of a comparison; None where it does not say.

    Attributes:
        url: Its address, without a password; None of the embedded engine.
        model: The model that was asked.
        simulated: Of the embedded engine, what it models; None of a live server.
        version: The server's own version.
        capacity_tokens: KV tokens that fit, over all its engines.
        block_size: Tokens a block of its prefix cache.
        max_model_len: The longest prompt and output it takes. [tokens]
    """

    model_config = ConfigDict(frozen=True)

    url: str | None
    model: str
    simulated: str | None = None
    version: str | None = None
    capacity_tokens: int | None = None
    block_size: int | None = None
    max_model_len: int | None = None


class WorkloadInfo(BaseModel):
    """What was replayed, after scaling.

    Attributes:
        source: The trace file's name, without its folders.
        agents: How many.
        turns: Their calls, all together.
        output_tokens: What they generate, all together.
        oversubscription: Σ of the agents' last prompts over the capacity; None with an unknown capacity.
        hit_rate_floor: Hit rate when an agent finds nothing but the shared prefix.
        hit_rate_ideal: Hit rate when nothing is ever evicted.
        seed: Chose the agents and their tokens.
        scale: Multiplied all token counts.
        scale_output: Multiplied the outputs on top of that.
        scale_tools: Multiplied the tool waits.
        max_context: Agents ended before a call that would pass it. [tokens]
    """

    model_config = ConfigDict(frozen=True)

    source: str
    agents: int
    turns: int
    output_tokens: int
    oversubscription: float | None
    hit_rate_floor: float
    hit_rate_ideal: float
    seed: int
    scale: float
    scale_output: float
    scale_tools: float
    max_context: int | None


class Moment(BaseModel):
    """The gate at one moment of a run; None where the server does not say.

    Attributes:
        time_s: Since the run began. [s]
        active: Agents with a place.
        paused: Agents that gave theirs up.
        queued: Agents that never had one yet.
        working_set_tokens: KV tokens of the active agents, as the gate knows them.
        kv_usage: Share of the KV cache held by requests in flight, 0 to 1.
        hit_rate: Prefix-cache hits over queries of the last moments.
        output_tokens: Generated in the turns finished so far.
        budget_agents: Agents that the gate allowed to be active; None without such a limit.
        budget_tokens: KV tokens that it allowed the working set to fill; None without such a limit.
    """

    model_config = ConfigDict(frozen=True)

    time_s: float
    active: int
    paused: int
    queued: int
    working_set_tokens: float
    kv_usage: float | None
    hit_rate: float | None
    output_tokens: int
    budget_agents: int | None = None
    budget_tokens: float | None = None


class AgentResult(BaseModel):
    """One agent of a run, whichever way it ended.

    Attributes:
        name: As the trace has it.
        size_tokens: Its context at the end: prompt and output of its last finished turn.
        turns: Finished turns.
        output_tokens: Generated in them.
        wait_s: Σ of its waits at the gate before those turns. [s]
        time_per_output_token_s: Σ of its turns' times from request to end, over its output tokens; None without
            any. [s]
        failed: Whether it ended with an error.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    size_tokens: int
    turns: int
    output_tokens: int
    wait_s: float
    time_per_output_token_s: float | None
    failed: bool = False


class DecisionResult(BaseModel):
    """One change of the gate's budget; None where there is no limit, or the server does not say.

    Attributes:
        time_s: Since the run began. [s]
        agents: How many may be active from then on.
        tokens: KV tokens that the working set may fill from then on.
        reason: Why, in the controller's words.
        active: Agents with a place at that moment.
        waiting: Agents without one, paused and queued.
        working_set_tokens: KV tokens of the active agents.
        kv_usage: Share of the KV cache held by requests in flight, 0 to 1.
        hit_rate: Prefix-cache hits over queries of the last moments.
    """

    model_config = ConfigDict(frozen=True)

    time_s: float
    agents: int | None
    tokens: float | None
    reason: str
    active: int
    waiting: int
    working_set_tokens: float
    kv_usage: float | None
    hit_rate: float | None


class RunResult(BaseModel):
    """One run of the workload under one controller; None where the server does not say.

    Attributes:
        controller: As given on the command line.
        makespan_s: From the first agent's start to the last one's end. [s]
        output_tokens: Generated in finished turns.
        output_tokens_per_s: Those over the makespan.
        hit_rate: Prefix-cache hits over queries, in tokens, over the run.
        prompt_tokens: The server's count over the run.
        computed_prompt_tokens: Of those, the tokens not served from a cache.
        preemptions: Requests preempted over the run.
        mean_active_agents: Agents with a place at the gate, over time.
        kv_usage_mean: Share of the KV cache held by requests in flight, over time, 0 to 1.
        kv_usage_peak: The highest that was seen.
        p50_time_per_output_token_s: Median over turns of (end - request) / output tokens. A wait at the gate
            is before the request. [s]
        p99_time_per_output_token_s: The 99th percentile of the same. [s]
        max_wait_s: The longest single wait of an agent at the gate. [s]
        speedup_vs_none: Output tokens a second over those of the run of `none`; None without that run.
        seed: Chose the agents and their tokens.
        turns: Finished turns.
        failed_agents: Agents that ended with an error, whose remaining turns were not run.
        first_error: What the first of them said.
        timeline: Moments of the run, evenly apart.
        agents: The agents, in the order in which they ended; of more than a thousand, that many evenly chosen by size.
        decisions_made: Changes of the budget over the run; None of a gate that keeps no account of them.
        decisions: The first and the last of them and those that changed the budget most, 100 at most, in order.
    """

    model_config = ConfigDict(frozen=True)

    controller: str
    makespan_s: float
    output_tokens: int
    output_tokens_per_s: float
    hit_rate: float | None
    prompt_tokens: int | None
    computed_prompt_tokens: int | None
    preemptions: int | None
    mean_active_agents: float
    kv_usage_mean: float | None
    kv_usage_peak: float | None
    p50_time_per_output_token_s: float
    p99_time_per_output_token_s: float
    max_wait_s: float
    speedup_vs_none: float | None = None
    seed: int = 0
    turns: int
    failed_agents: int = 0
    first_error: str | None = None
    timeline: tuple[Moment, ...] = ()
    agents: tuple[AgentResult, ...] = ()
    decisions_made: int | None = None
    decisions: tuple[DecisionResult, ...] = ()


class Comparison(BaseModel):
    """All of it: one server, one workload, the runs that finished, in their order."""

    model_config = ConfigDict(frozen=True)

    engine: EngineInfo
    workload: WorkloadInfo
    runs: tuple[RunResult, ...]


def with_speedups(runs: Sequence[RunResult]) -> tuple[RunResult, ...]:
    """The runs, each with its `speedup_vs_none` by the run of `none` with its seed; None where there is none."""
    none = {run.seed: run.output_tokens_per_s for run in runs if run.controller == "none" and run.output_tokens_per_s}
    return tuple(
        run.model_copy(update={"speedup_vs_none": run.output_tokens_per_s / none[run.seed]})
        if run.seed in none
        else run
        for run in runs
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the values do not exceed, linear between neighbours.

    Args:
        values: At least one, in any order.
        share: 0.5 for the median.
    """
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def write_json(comparisons: Sequence[Comparison], path: Path) -> None:
    """Write what was measured, whole or not at all: a crash leaves the file as it was.

    One comparison is written as an object, several as an array of them.

    Raises:
        OSError: If the folder cannot be written.
    """
    written: Any = [comparison.model_dump(mode="json") for comparison in comparisons]
    text = json.dumps(written[0] if len(written) == 1 else written, indent=2, ensure_ascii=False)
    write_whole(path, text + "\n")
