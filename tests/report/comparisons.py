"""Comparisons made by hand: small, and with whatever can be odd in one."""

from __future__ import annotations

import math

from concur_agents.replay.results import (
    AgentResult,
    Comparison,
    DecisionResult,
    EngineInfo,
    Moment,
    RunResult,
    WorkloadInfo,
    with_speedups,
)

CAPACITY = 100_000


def moment(number, **changes):
    return Moment(
        **{
            "time_s": 2.0 * number,
            "active": max(0, 20 - number // 5),
            "paused": min(5, number // 3),
            "queued": max(0, 15 - number // 2),
            "working_set_tokens": 1e5 * (1.2 + math.sin(number / 15)),
            "kv_usage": 0.5 + 0.4 * math.sin(number / 7),
            "hit_rate": 0.6 + 0.35 * math.cos(number / 9),
            "output_tokens": 150 * number,
            "budget_tokens": 90_000.0 + 10 * number,
        }
        | changes
    )


def agent(number, **changes):
    return AgentResult(
        **{
            "name": f"agent-{number}",
            "size_tokens": 4_000 + 137 * number,
            "turns": 5 + number % 7,
            "output_tokens": 300,
            "wait_s": 3.7 * (number % 11),
            "time_per_output_token_s": 0.02 + 0.003 * (number % 9),
        }
        | changes
    )


def decision(number, **changes):
    return DecisionResult(
        **{
            "time_s": 5.0 * number,
            "agents": None,
            "tokens": 90_000.0 + 100 * number,
            "reason": f"{0.8 + number / 1000:.3f} of a cache of 100,000",
            "active": 12,
            "waiting": 8,
            "working_set_tokens": 80_000.0,
            "kv_usage": 0.55,
            "hit_rate": 0.91,
        }
        | changes
    )


def run(controller, *, rate=50.0, agents=40, moments=100, decisions=3, **changes):
    return RunResult(
        **{
            "controller": controller,
            "makespan_s": 10_000.0 / rate,
            "output_tokens": 10_000,
            "output_tokens_per_s": rate,
            "hit_rate": 0.71,
            "prompt_tokens": 1_000_000,
            "computed_prompt_tokens": 290_000,
            "preemptions": 4,
            "mean_active_agents": 12.3,
            "kv_usage_mean": 0.61,
            "kv_usage_peak": 0.99,
            "p50_time_per_output_token_s": 0.031,
            "p99_time_per_output_token_s": 1.234,
            "max_wait_s": 37.0,
            "turns": 321,
            "timeline": tuple(moment(number) for number in range(moments)),
            "agents": tuple(agent(number) for number in range(agents)),
            "decisions_made": decisions,
            "decisions": tuple(decision(number) for number in range(decisions)),
        }
        | changes
    )


def comparison(*runs, live=False, agents=40, engine=None, workload=None):
    return Comparison(
        engine=EngineInfo(
            **{
                "url": "http://gpu-7:8000" if live else None,
                "model": "qwen3-32b",
                "simulated": None if live else "Qwen/Qwen3-32B on h100:2, by its data sheet",
                "version": "0.32.0" if live else None,
                "capacity_tokens": CAPACITY,
            }
            | (engine or {})
        ),
        workload=WorkloadInfo(
            **{
                "source": "trace.jsonl",
                "agents": agents,
                "turns": 321,
                "output_tokens": 10_000,
                "oversubscription": 3.2,
                "hit_rate_floor": 0.21,
                "hit_rate_ideal": 0.97,
                "seed": 0,
                "scale": 1.0,
                "scale_output": 1.0,
                "scale_tools": 1.0,
                "max_context": None,
            }
            | (workload or {})
        ),
        runs=with_speedups(runs),
    )


def usual():
    return comparison(run("none", rate=30.0), run("fixed:8"), run("aimd", rate=60.0), run("working-set", rate=75.0))


EVIL = "<script>document.title='hacked'</script><img src=http://evil.example/x onerror=alert(1)>\"'&{{ 7*7 }}$x^2$"


def odd():
    """All that can be odd at once: names that are code, no figures, failures, nothing recorded, many decisions."""
    return comparison(
        run("none", rate=30.0, timeline=()),
        run(
            EVIL,
            agents=0,
            hit_rate=None,
            kv_usage_mean=None,
            kv_usage_peak=None,
            preemptions=None,
            timeline=tuple(moment(n, hit_rate=None, kv_usage=None, budget_tokens=None) for n in range(50)),
            failed_agents=3,
            first_error=EVIL,
            decisions=0,
            decisions_made=None,
        ),
        run(
            "a-controller-with-a-name-that-is-much-too-long-to-be-shown-whole",
            rate=60.0,
            decisions=100,
            decisions_made=4321,
            agents=1000,
            failed_agents=2_000,
        ),
        run(
            "first-turns-failed",
            agents=30,
            timeline=tuple(moment(n) for n in range(1)),
            failed_agents=12,
        ).model_copy(
            update={
                "agents": tuple(
                    agent(
                        n,
                        name=f"{EVIL}{n}",
                        turns=0,
                        size_tokens=0,
                        output_tokens=0,
                        time_per_output_token_s=None,
                        failed=True,
                        wait_s=1e5 + n,
                    )
                    for n in range(30)
                )
            }
        ),
        run("aimd", rate=75.0, makespan_s=0.004, decisions=0, timeline=(moment(0), moment(0))),
        agents=2_000,
        live=True,
        engine={"capacity_tokens": None, "version": None, "model": EVIL},
        workload={"source": EVIL, "oversubscription": None},
    )
