"""The collapse without a gate and its absence with one, on the same load, on a real vLLM.

The load is made here: agents whose contexts grow to several times the cache. Ratios of tokens are asserted, not times.
"""

from __future__ import annotations

import gzip
import json
import logging
import random

import pytest

from concur_agents.replay.runner import run_live
from concur_agents.replay.server import open_server
from concur_agents.replay.shape import Shape
from concur_agents.replay.workload import Workload

log = logging.getLogger("live_thrash")

AGENTS = 24
STEPS = 8
SHARED = 256
SEED = 7


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    """24 agents of 8 turns; contexts grow from 700 to about 2,400 tokens: over 3 times a cache of 16,384."""
    random_ = random.Random(SEED)
    agents = []
    for number in range(AGENTS):
        context, steps = random_.randrange(500, 900), []
        new = context
        for _ in range(STEPS):
            output = random_.randrange(16, 33)
            steps.append(
                {
                    "context_tokens": context,
                    "new_input_tokens": new,
                    "output_tokens": output,
                    "tool_seconds": round(random_.uniform(0.05, 0.4), 2),
                }
            )
            grown = random_.randrange(150, 300)
            new = grown
            context += output + grown
        agents.append(
            {
                "agent_id": f"made-up-{number}",
                "source": "made up",
                "parent": None,
                "prefix_group": "made-up",
                "shared_prefix_tokens": SHARED,
                "tokens": "exact",
                "steps": steps,
            }
        )
    path = tmp_path_factory.mktemp("load") / "load.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(agent) + "\n" for agent in agents)
    return Workload.load(str(path), Shape())


async def test_the_cache_thrashes_without_a_gate_and_does_not_with_one(vllm_server, workload):
    results = {}
    async with open_server(vllm_server.url, model_name=None, api_key="EMPTY") as server:
        info = workload.info(server.info.capacity_tokens)
        for controller in ("none", "fixed:6", "aimd", "working-set"):
            results[controller] = run = await run_live(workload, controller, server, on_progress=lambda _: None)
            log.info(
                "%-11s %6.1f s, %5.1f output tokens/s, hit rate %.2f, %d tokens computed",
                controller,
                run.makespan_s,
                run.output_tokens_per_s,
                run.hit_rate,
                run.computed_prompt_tokens,
            )
    assert info.oversubscription > 3
    none, gated = results["none"], results["fixed:6"]
    assert all(run.failed_agents == 0 for run in results.values())
    assert none.hit_rate < 0.5
    assert gated.hit_rate > 0.75
    assert gated.computed_prompt_tokens < 0.5 * none.computed_prompt_tokens
    assert gated.mean_active_agents <= 6
    # With nothing to tune; a cap that was chosen for this load saves more (docs/measurements.md).
    assert results["working-set"].computed_prompt_tokens < 0.75 * none.computed_prompt_tokens
