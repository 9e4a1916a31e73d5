"""A short calibration: what the steps of a live server cost, as a profile for the embedded engine.

An idle server gets a few requests at a time and is timed from outside. What its steps must have computed meanwhile is
what the embedded engine computes on the same requests; the costs are those that explain the times best.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import openai

from concur_agents.errors import MetricsError
from concur_agents.replay.least_squares import fit_non_negative
from concur_agents.replay.probes import make_probes
from concur_agents.replay.prompt import IDS
from concur_agents.replay.server import ReplayError
from concur_agents.simulation.content import Prompt
from concur_agents.simulation.engine import Engine
from concur_agents.simulation.limits import SchedulerLimits
from concur_agents.simulation.profile import EngineProfile, LinearProfile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from concur_agents.replay.probes import Call, Probe
    from concur_agents.replay.server import LiveServer
    from concur_agents.simulation.step import StepLoad

PASSES = 3
"""How often each probe is sent; its time is the middle one, so that one disturbed pass does no harm."""
BUDGET_S = 85.0
"""No further pass is begun that would end later than this. [s]"""
IDLE_LIMIT_S = 60.0
LOOK_S = 0.5
"""The metrics are read meanwhile as often as a gate reads them, for on a small server that costs, too. [s]"""
ROUNDS = 4
"""What a step computes depends a little on how long steps take, for others arrive meanwhile: the fit is repeated."""
SHARE_OF_CACHE = 4
"""The longest prompt is this part of the cache: contexts that crowd a cache are not much longer, and probes of several
fit."""
SHORTEST = 320
"""With less for its longest prompt, the probes would be too short to tell costs apart. [tokens]"""
ROOM = 64
"""Tokens left for outputs."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A probe begins.

    Attributes:
        number: Which one, from 1, over all passes.
        of: How many there will be at most.
        name: The probe's name.
    """

    number: int
    of: int
    name: str


@dataclass(frozen=True, slots=True)
class Timed:
    """A probe, and how well it is explained.

    Attributes:
        name: The probe's name.
        passes_s: From its first request to its last answer, in each pass. [s]
        predicted_s: The same by the profile. [s]
    """

    name: str
    passes_s: tuple[float, ...]
    predicted_s: float

    @property
    def measured_s(self) -> float:
        """The middle one of the passes. [s]"""
        return median(self.passes_s)

    @property
    def error(self) -> float:
        """(predicted - measured) / measured."""
        return self.predicted_s / self.measured_s - 1


@dataclass(frozen=True, slots=True)
class Calibration:
    """What came of it.

    Attributes:
        profile: The engine that was found.
        probes: What it was found from.
    """

    profile: EngineProfile
    probes: tuple[Timed, ...]

    @property
    def typical_error(self) -> float:
        """The middle one of the probes' errors, without sign."""
        return median(abs(probe.error) for probe in self.probes)


async def calibrate(
    server: LiveServer, *, on_progress: Callable[[Progress], None], limits: SchedulerLimits | None = None
) -> Calibration:
    """Measure an idle server: a minute on a small one, less on a fast one.

    Capacity, block size and longest context are the server's own figures. What its scheduler was started with it does
    not tell.

    Args:
        server: The server; nobody else may use it meanwhile.
        on_progress: Called before each probe.
        limits: What its scheduler was started with; by default what `vllm serve` takes on an H100.

    Raises:
        ReplayError: If it does not say what is needed, is not one engine, is not idle or does not do as it is told.
        MetricsError: If its metrics cannot be had.
    """
    limits = limits or SchedulerLimits()
    blank = await _blank_profile(server, limits)
    longest = min(blank.max_model_len, blank.capacity_tokens // SHARE_OF_CACHE) - ROOM
    if longest < SHORTEST:
        raise ReplayError(
            f"{_where(server)} is too small to calibrate: with a context of {blank.max_model_len:,} tokens and a cache "
            f"of {blank.capacity_tokens:,} the longest prompt would be {max(0, longest)}, and {SHORTEST} are needed"
        )
    probes = make_probes(longest, limits.max_num_seqs)
    await server.wait_until_idle(IDLE_LIMIT_S)
    looks = asyncio.create_task(_keep_looking(server))
    try:
        times = await _timed(server, probes, on_progress)
    finally:
        looks.cancel()
    return _fitted(blank, probes, times)


async def _keep_looking(server: LiveServer) -> None:
    while True:
        with suppress(MetricsError):  # it is not their content that counts
            await server.readings()
        await asyncio.sleep(LOOK_S)


async def _timed(
    server: LiveServer, probes: Sequence[Probe], on_progress: Callable[[Progress], None]
) -> dict[str, list[float]]:
    """Send the probes, pass by pass; each one's times. [s]"""
    loop = asyncio.get_running_loop()
    since = loop.time()
    times: dict[str, list[float]] = {probe.name: [] for probe in probes}
    for done in range(PASSES):
        if done and (loop.time() - since) * (done + 1) / done > BUDGET_S:
            break
        one_pass = _Pass(server, done, times)
        for number, probe in enumerate(probes, 1):
            on_progress(Progress(done * len(probes) + number, PASSES * len(probes), probe.name))
            times[probe.name].append(await one_pass.time(probe))
    return times


def _where(server: LiveServer) -> str:
    return server.info.url or server.info.model


async def _blank_profile(server: LiveServer, limits: SchedulerLimits) -> EngineProfile:
    """The server's own figures; the costs are not those of anything yet."""
    info = server.info
    engines = len(await server.readings())
    if engines != 1:
        raise ReplayError(f"{_where(server)} has {engines} engines, and one is simulated: calibrate a server with one")
    unsaid = [
        what
        for what, value in (
            ("its KV cache's size", info.capacity_tokens),
            ("its block size", info.block_size),
            ("its longest context", info.max_model_len),
        )
        if not value
    ]
    if not (info.capacity_tokens and info.block_size and info.max_model_len):
        raise ReplayError(f"{_where(server)} does not say {' and '.join(unsaid)}: is it vLLM 0.9 or newer?")
    # vLLM tells tokens as blocks over blocks of the longest context, times that context
    # (0.32 v1/core/kv_cache_utils.py `get_kv_cache_capacity`).
    blocks = round(info.capacity_tokens * -(-info.max_model_len // info.block_size) / info.max_model_len)
    version = f"vLLM {info.version}" if info.version else "a server"
    return EngineProfile(
        name=info.model,
        description=f"{info.model} on {version}, as measured at {_where(server)}",
        blocks=blocks,
        block_size=info.block_size,
        max_model_len=min(info.max_model_len, (blocks - 1) * info.block_size),
        max_num_batched_tokens=limits.max_num_batched_tokens,
        max_num_seqs=limits.max_num_seqs,
        watermark=limits.watermark,
        async_scheduling=limits.async_scheduling,
        step_time=LinearProfile(step=1.0),
    )


class _Pass:
    """One pass over the probes, with a cache of its own."""

    def __init__(self, server: LiveServer, number: int, times: dict[str, list[float]]) -> None:
        self._server = server
        self._times = times
        self._salt = uuid.uuid4().hex
        self._rng = random.Random(number)  # noqa: S311  filler, not a secret
        self._prompts: dict[str, list[int]] = {}

    async def time(self, probe: Probe) -> float:
        """Send a probe; from its first request to its last answer. [s]"""
        loop = asyncio.get_running_loop()
        gap = _gap_s(probe, self._times)
        prompts = [self._prompt(call) for call in probe.calls]
        began = loop.time()
        await asyncio.gather(
            *(self._call(call, ids, gap * call.place) for call, ids in zip(probe.calls, prompts, strict=True))
        )
        return loop.time() - began

    def _prompt(self, call: Call) -> list[int]:
        if call.prompt not in self._prompts:
            self._prompts[call.prompt] = self._rng.choices(IDS, k=call.prompt_tokens)
        return self._prompts[call.prompt] + self._rng.choices(IDS, k=call.more_tokens)

    async def _call(self, call: Call, ids: list[int], after_s: float) -> None:
        server = self._server
        if after_s:
            await asyncio.sleep(after_s)
        try:
            completion = await server.client.completions.create(
                model=server.info.model,
                prompt="",  # the client would check a list given here item by item
                max_tokens=call.output_tokens,
                extra_body={
                    "prompt": ids,
                    "ignore_eos": True,
                    "min_tokens": call.output_tokens,
                    "cache_salt": self._salt,
                    "return_token_ids": True,
                },
            )
        except openai.OpenAIError as error:
            raise ReplayError(f"{_where(server)} does not complete a prompt: {server.told(error)}") from error
        made = completion.usage.completion_tokens if completion.usage else None
        if made != call.output_tokens:
            raise ReplayError(
                f"{_where(server)} was asked for {call.output_tokens} output tokens and made {made}: it has to honour "
                "min_tokens and ignore_eos, as vLLM does"
            )


def _gap_s(probe: Probe, times: dict[str, list[float]]) -> float:
    """Between the starts of two calls: that of the first pass in all passes, so that they compare. [s]"""
    return times[probe.gap_of][0] if probe.gap_of else 0.0


def _fitted(blank: EngineProfile, probes: Sequence[Probe], times: dict[str, list[float]]) -> Calibration:
    measured = {name: median(passes) for name, passes in times.items()}
    # A first guess that only has to be of the right order: what a token and a step cost can be read off two probes.
    shortest = min(measured.values())
    profile = blank.model_copy(update={"step_time": LinearProfile(step=shortest / 2, token=shortest / 100)})
    for _ in range(ROUNDS):
        works = _works(profile, probes, times)
        rows, targets = [], []
        for probe, work in zip(probes, works, strict=True):
            scale = probe.weight / measured[work.name]
            rows.append([scale * value for value in (*work.sums, 1.0)])
            targets.append(probe.weight - scale * work.idle_s)
        step, token, attended, read, request, prompt, largest, latency = fit_non_negative(rows, targets)
        costs = LinearProfile(
            step=max(step, shortest * 1e-3),  # a step that takes no time would never end
            token=token,
            attended=attended,
            read=read,
            request=request,
            prompt=prompt,
            largest=largest,
        )
        profile = blank.model_copy(update={"step_time": costs, "request_latency": latency})
    return Calibration(
        profile,
        tuple(Timed(work.name, tuple(times[work.name]), work.took_s) for work in _works(profile, probes, times)),
    )


@dataclass(frozen=True, slots=True)
class _Work:
    """What the engine did for a probe.

    Attributes:
        name: The probe's name.
        sums: Steps, tokens, attended, read, requests, prompts and the largest prompts' work, over all its steps.
        took_s: From the first request to the last answer. [s]
        idle_s: Of that, when the engine had nothing to do and no latency passed. [s]
    """

    name: str
    sums: tuple[int, int, int, int, int, int, int]
    took_s: float
    idle_s: float


def _works(profile: EngineProfile, probes: Sequence[Probe], times: dict[str, list[float]]) -> list[_Work]:
    """Play one pass on a new engine; the first call of a probe starts alone, for a server hears them one by one."""
    costs = _Recorder(profile)
    latency = profile.request_latency
    now = 0.0
    works = []
    for probe in probes:
        began, before = now, costs.engine.steps
        gap = _gap_s(probe, times)
        for call in probe.calls:
            arrives = began + latency + gap * call.place
            costs.engine.advance(arrives)
            prompt = Prompt([(call.prompt, call.prompt_tokens), (f"{probe.name} {call.prompt}", call.more_tokens)])
            costs.engine.submit(arrives, prompt, call.output_tokens)
        while (due := costs.engine.next_event()) is not None:
            now = due
            costs.engine.advance(now)
        done = costs.loads[before : costs.engine.steps]
        busy = sum(map(costs.step_time, done))
        works.append(
            _Work(
                probe.name,
                (
                    len(done),
                    sum(load.tokens for load in done),
                    sum(load.attended for load in done),
                    sum(load.read for load in done),
                    sum(load.requests for load in done),
                    sum(load.requests - load.decodes for load in done),
                    sum(load.largest for load in done),
                ),
                took_s=now - began,
                idle_s=max(0.0, now - began - latency - busy),
            )
        )
    return works


class _Recorder:
    """An engine, and what each of its steps computed.

    Attributes:
        engine: The engine.
        loads: One for each completed step; after them may be some that were planned.
        step_time: The engine's.
    """

    def __init__(self, profile: EngineProfile) -> None:
        self.loads: list[StepLoad] = []
        self.step_time = profile.step_time.step_time()
        self._planned_from = -1
        self.engine = Engine(
            profile.blocks,
            self._note,
            block_size=profile.block_size,
            limits=SchedulerLimits(
                max_num_batched_tokens=profile.max_num_batched_tokens,
                max_num_seqs=profile.max_num_seqs,
                watermark=profile.watermark,
                async_scheduling=profile.async_scheduling,
            ),
            max_model_len=profile.max_model_len,
        )

    def _note(self, load: StepLoad) -> float:
        steps = self.engine.steps
        if steps != self._planned_from:  # a new plan: what is left of the one before was taken back
            del self.loads[steps:]
            self._planned_from = steps
        self.loads.append(load)
        return self.step_time(load)
