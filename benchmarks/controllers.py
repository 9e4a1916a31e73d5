"""Every workload under every controller and rival law, in virtual time: one table a group of cases.

    python benchmarks/controllers.py                                 all generated cases
    python benchmarks/controllers.py --traces DIR                    and those of the traces in DIR
    python benchmarks/controllers.py --cases pressure,glm-resets --controllers none,best-fixed,aimd,thunderagent
    python benchmarks/controllers.py --json FILE                     results kept: what is there is not run again
    python benchmarks/controllers.py --json FILE --again aimd        except that of these controllers

Controllers are those of `parse_controller`, the rivals of `benchmarks/rivals.py`, `best-fixed` (the best of a sweep of
at least 12 caps, and of two more about the best of these) and `unlimited` (no gate, and 200 times the KV cache: the
ceiling). All figures are simulated. A run takes some seconds of processor time, and so a case under all controllers a
minute or two.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import rivals
from cases import CASES, GROUPS, Case, chosen
from results_table import COLUMNS, Job, Result, Results, cells, tables

from concur_agents.control import parse_controller
from concur_agents.replay.simulated import run_simulated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from concur_agents.replay.workload import Workload
    from concur_agents.simulation.profile import EngineProfile

UNLIMITED = 200
"""So many times the blocks: nothing is ever evicted."""
CAPS = (2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 56, 64, 80, 96, 128, 192, 256, 384, 512, 768)
FINE_CAPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, *CAPS[8:])
"""For few agents."""
LEAST_CAPS = 12
KEPT = (
    "makespan_s",
    "output_tokens",
    "output_tokens_per_s",
    "hit_rate",
    "preemptions",
    "mean_active_agents",
    "kv_usage_mean",
    "p50_time_per_output_token_s",
    "p99_time_per_output_token_s",
    "max_wait_s",
)


@lru_cache(maxsize=1)
def load(case: str, seed: int, traces: Path | None) -> tuple[Workload, EngineProfile]:
    """A case's agents and engine; the last are kept, as jobs come in the order of cases."""
    workload = CASES[case].workload(traces, seed)
    return workload, CASES[case].profile(workload)


def simulate(job: Job, traces: Path | None) -> Result:
    """Run a job; what was measured, and what it ran on."""
    workload, profile = load(job.case, job.seed, traces)
    info = workload.info(profile.capacity_tokens)
    spec, engine = job.controller, profile
    if spec == "unlimited":
        spec, engine = "none", profile.model_copy(update={"blocks": UNLIMITED * profile.blocks})
    began = time.process_time()
    run = run_simulated(
        workload,
        spec,
        engine,
        on_progress=lambda _: None,
        gate=rivals.maker(job.controller, workload, max_model_len=profile.max_model_len),
    )
    measured: Result = {name: getattr(run, name) for name in KEPT}
    return measured | {
        "agents": info.agents,
        "turns": info.turns,
        "oversubscription": info.oversubscription,
        "ideal_hit_rate": info.hit_rate_ideal,
        "processor_s": round(time.process_time() - began, 2),
    }


def work(traces: Path | None) -> None:
    """Run the jobs on stdin, one a line, and print what came of each."""
    for line in sys.stdin:
        job = Job(**json.loads(line))
        try:
            answer: dict[str, object] = {"result": simulate(job, traces)}
        except Exception as error:  # noqa: BLE001  one run's failure is written down, the others go on
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"job": asdict(job), **answer}), flush=True)


def run_all(jobs: Sequence[Job], results: Results, *, workers: int, traces: Path | None) -> int:
    """Run the jobs that have no result yet, each worker a process of its own; returns how many failed."""
    todo = [job for job in jobs if job.key not in results.of]
    waiting = iter(todo)
    lock = threading.Lock()
    done = failed = 0

    def drive() -> None:
        nonlocal done, failed
        command = [sys.executable, __file__, "--worker", *(["--traces", str(traces)] if traces else [])]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdin is not None  # pipes both
            assert worker.stdout is not None
            while True:
                with lock:
                    job = next(waiting, None)
                if job is None:
                    break
                print(json.dumps(asdict(job)), file=worker.stdin, flush=True)
                line = worker.stdout.readline()
                answer = json.loads(line or '{"error": "its process ended"}')
                with lock:
                    done += 1
                    failed += "error" in answer
                if "error" in answer:
                    print(f"{job.key}: {answer['error']}", file=sys.stderr)
                    if not line:
                        break
                    continue
                result = answer["result"]
                results.add(job, result)
                print(
                    f"[{done}/{len(todo)}] {job.key}: {result['output_tokens_per_s']:.0f} tok/s simulated",
                    file=sys.stderr,
                )
            worker.stdin.close()

    threads = [threading.Thread(target=drive) for _ in range(min(workers, len(todo)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed + len(list(waiting))


def sweep(case: Case, seed: int, traces: Path | None) -> tuple[int, ...]:
    """The caps that are tried in a case: at least 12 of them under the number of agents, where there are so many."""
    roots = len(load(case.name, seed, traces)[0].roots)
    caps = tuple(cap for cap in CAPS if cap < roots)
    return caps if len(caps) >= LEAST_CAPS else tuple(cap for cap in FINE_CAPS if cap < roots)


def specs(case: Case, controller: str, seed: int, traces: Path | None) -> list[str]:
    """What has to be run for a column."""
    if controller == "best-fixed":
        return [f"fixed:{cap}" for cap in sweep(case, seed, traces)]
    return [controller]


def between(case: Case, seeds: int, results: Results, traces: Path | None) -> set[str]:
    """The caps half-way from the best of the sweep to those beside it: who tunes by hand would look there."""
    caps = sweep(case, 0, traces)
    tried = [cell for cap in caps for cell in cells(case, f"fixed:{cap}", seeds, results)]
    if len(tried) < len(caps):
        return set()  # not all could be run
    top = max(range(len(caps)), key=lambda number: tried[number].ratio)
    return {f"fixed:{(low + high) // 2}" for low, high in pairwise(caps[max(0, top - 1) : top + 2])}


def check_controllers(names: Sequence[str]) -> None:
    """See that every column can be made.

    Raises:
        ValueError: If one cannot.
    """
    for name in names:
        if name not in COLUMNS:
            try:
                parse_controller(name)
            except ValueError as error:
                raise ValueError(f"{error}; or one of {', '.join(COLUMNS)}") from None


def main() -> None:
    parser = argparse.ArgumentParser(description="Every workload under every controller, in virtual time.")
    traces = os.environ.get("CONCUR_TRACES")
    parser.add_argument("--traces", type=Path, default=Path(traces) if traces else None, help="folder of the traces")
    parser.add_argument("--cases", default="", help=f"names or groups, with commas: {', '.join((*GROUPS, *CASES))}")
    parser.add_argument("--controllers", default=",".join(COLUMNS), help="with commas; all: %(default)s")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0 on")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    parser.add_argument("--json", type=Path, help="where results are kept")
    parser.add_argument("--again", default="", help="controllers whose kept results are not believed")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.traces)
        return
    try:
        cases = chosen(_names(options.cases), traces=options.traces is not None)
        columns = list(dict.fromkeys(("none", *_names(options.controllers))))
        check_controllers(columns)
    except ValueError as error:
        parser.error(str(error))
    jobs = [
        Job(case.name, spec, seed)
        for case in cases
        for seed in range(options.seeds)
        for column in columns
        for spec in specs(case, column, seed, options.traces)
    ]
    results = Results(options.json, _names(options.again))
    failed = run_all(jobs, results, workers=options.jobs, traces=options.traces)
    if "best-fixed" in columns:
        jobs = [
            Job(case.name, spec, seed)
            for case in cases
            for spec in between(case, options.seeds, results, options.traces)
            for seed in range(options.seeds)
        ]
        failed += run_all(jobs, results, workers=options.jobs, traces=options.traces)
    print(tables(cases, columns, options.seeds, results))
    if failed:
        sys.exit(f"{failed} runs failed or were not begun: what is missing shows as –")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    main()
