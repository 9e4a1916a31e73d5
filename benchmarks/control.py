"""What one control decision costs, for each controller. Run it as a script for a table.

The design asks for under 0.5 ms with 10,000 agents. A controller sees aggregates, so the number of agents
does not enter; the number of engines on the page does, so it is measured with 1 and with 64.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import quantiles
from time import perf_counter_ns

from concur_agents.control import Aimd, Controller, Fallback, Fixed, Pi, PoolView, Unlimited
from concur_agents.engines.snapshot import EngineSnapshot, EngineWindow

ROUNDS, CALLS = 200, 50
"""Times are taken over CALLS decisions at once, ROUNDS times: a single one is near the clock's resolution."""

POOL = PoolView(
    active=2_000,
    running=1_500,
    paused=3_000,
    queued=5_000,
    weighed=2_000,
    working_set_tokens=40e6,
    growth_tokens=1e6,
    turns=100_000,
    prompt_tokens=1_000_000_000,
)


def snapshot(engines: int, usage: float, hit_rate: float) -> EngineSnapshot:
    """What a server with so many equal engines says."""
    windows = tuple(
        EngineWindow(engine=str(number), usage=usage, hit_rate=hit_rate, running=20.0, waiting=5.0)
        for number in range(engines)
    )
    return EngineSnapshot(
        time=0.0,
        window_s=10.0,
        engines=windows,
        usage=usage,
        hit_rate=hit_rate,
        running=20.0 * engines,
        waiting=5.0 * engines,
        sleeping=False,
        capacity_tokens=50e6,
        block_size=16,
        preemptions=0.0,
        prompt_tokens=1e6,
        computed_prompt_tokens=2e5,
        generation_tokens=1e4,
        restarts=0,
    )


def controllers() -> list[Controller]:
    """One of each, none of which may rest between two looks: every call is a decision."""
    return [Unlimited(), Fixed(16), Aimd(interval_s=0.0), Pi()]


def per_call_us(controller: Controller, engines: int) -> list[float]:
    """µs a decision, once a round, in a load that swings between thrash and room."""
    thrash, room = snapshot(engines, 0.9, 0.1), snapshot(engines, 0.1, 0.9)
    empty = replace(POOL, working_set_tokens=5e6)
    now, samples = 0.0, []
    for _ in range(ROUNDS):
        start = perf_counter_ns()
        for _ in range(CALLS // 2):
            controller.decide(POOL, thrash, now)
            controller.decide(empty, room, now + 1.0)
            now += 2.0
        samples.append((perf_counter_ns() - start) / CALLS / 1000)
    return samples


def per_fallback_us() -> list[float]:
    """µs a decision in an outage, past its grace, by token counts."""
    fallback = Fallback(grace_s=0.0)
    last = Fixed(16).decide(POOL, None, 0.0)
    samples = []
    for second in range(ROUNDS):
        start = perf_counter_ns()
        for _ in range(CALLS):
            fallback.decide(POOL, last, 50e6, float(second), "metrics gone")
        samples.append((perf_counter_ns() - start) / CALLS / 1000)
    return samples


def measure() -> dict[str, float]:
    """The cost of a decision: for each case its median, and its spread (5th to 95th percentile). [µs]"""
    cases = {
        f"{controller.name}, {engines} engine{'s' if engines > 1 else ''}": per_call_us(controller, engines)
        for engines in (1, 64)
        for controller in controllers()
    }
    cases["outage"] = per_fallback_us()
    figures = {}
    for case, samples in cases.items():
        cuts = quantiles(samples, n=20)
        figures[f"{case}: median"] = cuts[9]
        figures[f"{case}: spread"] = cuts[18] - cuts[0]
    return figures


def main() -> None:
    figures = measure()
    print(f"{'one control decision':<24}{'median µs':>12}{'spread µs':>12}")
    for name, median in figures.items():
        case, _, figure = name.rpartition(": ")
        if figure == "median":
            print(f"{case:<24}{median:>12.2f}{figures[f'{case}: spread']:>12.2f}")


if __name__ == "__main__":
    main()
