"""Controllers beside a sweep of fixed caps on a real vLLM on the CPU: every run of a load on one server, in turn.

    python benchmarks/real_vllm.py                             starts the server of `make vllm`, about forty minutes
    python benchmarks/real_vllm.py --loads growing --rounds 3  one load, with three draws of its agents
    python benchmarks/real_vllm.py --url http://127.0.0.1:8000 a server that runs already

Loads are small copies of what agents do, four times the cache or near it, for a cache of 16,384 tokens:

- growing: 24 made-up agents of 8 turns that grow by a quarter a turn, as in tests/live/test_thrash.py;
- chat-tools, search, swe: the generated workloads with contexts and waits scaled down.

Each round has other agents. Ratios within one round are side by side; seconds are those of two cores. Leave the machine
alone meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import logging
import random
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import mean

import rivals

from concur_agents.files import write_whole
from concur_agents.replay.runner import run_live
from concur_agents.replay.server import open_server
from concur_agents.replay.shape import Shape
from concur_agents.replay.trace import AgentTrace
from concur_agents.replay.workload import Workload

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
CONTROLLERS = ("none", "aimd", "working-set", "thunderagent", "prime-rl")
"""Ours, and the laws of others from `benchmarks/rivals.py` with the periods that they are published with."""
CAPS = {"growing": (6, 7, 8), "chat-tools": (10, 12, 16), "search": (3, 4, 5), "swe": (10, 12, 14)}
"""A few on either side of the best of a wider sweep on the embedded engine, fitted to this server: each is a run."""

FIGURES: tuple[str, ...] = (
    "makespan_s",
    "output_tokens_per_s",
    "hit_rate",
    "mean_active_agents",
    "max_wait_s",
    "failed_agents",
)
FIGURES += ("p99_time_per_output_token_s", "computed_prompt_tokens")


def growing(agents: int = 24, turns: int = 8, *, seed: int) -> Workload:
    """Agents whose contexts grow from about 700 to 2,400 tokens, with little in common."""
    rng = random.Random(seed)
    made = []
    for number in range(agents):
        context, steps = rng.randrange(500, 900), []
        new = context
        for _ in range(turns):
            output = rng.randrange(16, 33)
            wait = round(rng.uniform(0.05, 0.4), 2)
            step = {"context_tokens": context, "new_input_tokens": new, "output_tokens": output, "tool_seconds": wait}
            steps.append(step)
            new = rng.randrange(150, 300)
            context += output + new
        agent = {"agent_id": f"made-up-{number}", "prefix_group": "made-up", "shared_prefix_tokens": 256}
        made.append(AgentTrace.model_validate({**agent, "steps": steps}))
    return Workload("growing", Shape(), tuple(made))


def loads(seed: int) -> dict[str, Workload]:
    """The loads by name."""
    return {
        "growing": growing(seed=seed),
        "chat-tools": Workload.load("workload:chat-tools", Shape(agents=40, seed=seed, scale=0.6, scale_tools=0.1)),
        "search": Workload.load("workload:search", Shape(agents=24, seed=seed, scale=0.06, scale_tools=0.05)),
        "swe": Workload.load("workload:swe", Shape(agents=32, seed=seed, scale=0.035, scale_tools=0.02)),
    }


async def measure(url: str, names: list[str], rounds: int, results: dict[str, dict[str, float]], path: Path) -> None:
    """Run what is not in `results` yet, and keep it there and in the file."""
    async with open_server(url, model_name=None, api_key="EMPTY") as server:
        for round_ in range(rounds):
            for name in names:
                workload = loads(seed=round_ + 1)[name]
                over = workload.info(server.info.capacity_tokens).oversubscription or 0
                for controller in (*CONTROLLERS, *(f"fixed:{cap}" for cap in CAPS[name])):
                    key = f"{name} | {controller} | {round_}"
                    if key in results:
                        continue
                    rival = rivals.maker(controller, workload, max_model_len=server.info.max_model_len or 0)
                    run = await run_live(workload, controller, server, on_progress=lambda _: None, gate=rival)
                    results[key] = {figure: getattr(run, figure) for figure in FIGURES} | {"oversubscription": over}
                    write_whole(path, json.dumps(results, indent=1))
                    print(f"{key}: {run.output_tokens_per_s:.1f} tok/s, {run.hit_rate:.2f}", file=sys.stderr)


def table(results: dict[str, dict[str, float]]) -> str:
    """Each load under each controller, with the range over the rounds, and what the best cap of the sweep gave."""
    lines = [
        "| load | KV × | controller | output tokens/s | over no gate | over the best cap | hit rate | mean active |"
    ]
    lines.append("|---|--:|---|--:|--:|--:|--:|--:|")
    for name in dict.fromkeys(key.split(" | ")[0] for key in results):
        speeds: dict[str, list[float]] = {}
        rows: dict[str, list[dict[str, float]]] = {}
        for key, row in results.items():
            load, controller, _ = key.split(" | ")
            if load == name:
                speeds.setdefault(controller, []).append(row["output_tokens_per_s"])
                rows.setdefault(controller, []).append(row)
        caps = [controller for controller in speeds if controller.startswith("fixed:")]
        top = max(caps, key=lambda cap: mean(speeds[cap]), default=None)
        for controller, speed in speeds.items():
            figures = rows[controller]
            shown = f"{mean(speed):.1f}" + (f" ({min(speed):.1f}–{max(speed):.1f})" if len(speed) > 1 else "")
            over_none = f"{mean(speed) / mean(speeds['none']):.2f}" if "none" in speeds else "–"
            over_cap = f"{mean(speed) / mean(speeds[top]):.2f}" if top else "–"
            hit, active = (mean(row[what] for row in figures) for what in ("hit_rate", "mean_active_agents"))
            over = figures[0]["oversubscription"]
            lines.append(
                f"| {name} | {over:.1f} | {controller}{' (best)' if controller == top else ''} | {shown} "
                f"| {over_none} | {over_cap} | {hit:.2f} | {active:.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Controllers and fixed caps on a real vLLM.")
    parser.add_argument("--url", help="a server that runs already, with 16,384 KV tokens; started here if not given")
    parser.add_argument("--loads", default=",".join(CAPS), help="with commas; all: %(default)s")
    parser.add_argument("--rounds", type=int, default=1, help="draws of the agents")
    parser.add_argument("--json", type=Path, default=Path("live.json"), help="results, which are kept")
    options = parser.parse_args()
    names = options.loads.split(",")
    if unknown := set(names) - set(CAPS):
        parser.error(f"there is no load {min(unknown)!r}: give some of {', '.join(CAPS)}")
    for chatty in ("httpx", "httpx2", "openai", "concur_agents"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    results = json.loads(options.json.read_text()) if options.json.exists() else {}
    with ExitStack() as stack:
        url = options.url
        if url is None:
            sys.path.insert(0, str(SCRIPTS))
            live_vllm = importlib.import_module("live_vllm")
            python = live_vllm.ensure_env(live_vllm.default_venv())
            url = stack.enter_context(live_vllm.Server(python, live_vllm.free_port())).url
        asyncio.run(measure(url, names, options.rounds, results, options.json))
    print(table(results))


if __name__ == "__main__":
    main()
