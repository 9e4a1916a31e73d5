"""The embedded engine: vLLM's scheduler and cache, run through time by a step-time function.

Time goes in as numbers and events come out: there is no clock, no I/O and no randomness here. The engine runs steps
back to back as long as it has work (vLLM 0.32 v1/engine/core.py `run_busy_loop`), and looks at arrivals and aborts
only between steps (`_process_input_queue`, `_process_aborts_queue`). With asynchronous scheduling a step is filled
while the one before it runs (`step_with_batch_queue`): what arrives or is freed counts one step later.

Steps in which only decoding goes on are planned together, up to the next finish or lack of blocks, and taken back if
something arrives. Each has its duration from the same function and is added to the time in the same order as if it
were alone, so results do not depend on when or how often the engine is asked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from math import inf
from operator import index
from typing import TYPE_CHECKING, NamedTuple

from concur_agents.simulation.blocks import PrefixCache
from concur_agents.simulation.counters import Counters
from concur_agents.simulation.limits import SchedulerLimits
from concur_agents.simulation.request import Phase, Request
from concur_agents.simulation.scheduler import Scheduler
from concur_agents.simulation.step import StepLoad

if TYPE_CHECKING:
    from collections.abc import Hashable

    from concur_agents.simulation.content import Prompt
    from concur_agents.simulation.step import StepTime


class FirstToken(NamedTuple):
    """A request got its first token."""

    time: float
    request: Request


class Finished(NamedTuple):
    """A request got its last token; its usage and times are on it."""

    time: float
    request: Request


Event = FirstToken | Finished


class RequestRefused(ValueError):
    """The engine can never serve this request; vLLM answers with status 400."""


class Engine:
    """One vLLM engine in simulated time.

    Every `now` is on the caller's clock, in seconds, and never before an earlier one. Of what happens at the same
    instant, a step that ends comes first: the next step starts at once, and what is submitted then waits for the step
    after it. An idle engine starts when time is next advanced, so all that arrive at one instant start together.

    Args:
        blocks: KV blocks, as in `--num-gpu-blocks-override`: one of them is never used (v1/core/block_pool.py).
        step_time: How long a step takes.
        block_size: Tokens a block.
        limits: The server's limits.
        max_model_len: Longest prompt and output together; by default all that fits. [tokens]

    Attributes:
        counters: What the engine tells about itself; advance first, then read.
        max_model_len: Longest prompt and output together. [tokens]

    Raises:
        ValueError: A size is not positive, or a request of `max_model_len` would not fit the blocks
            (v1/core/kv_cache_utils.py `check_enough_kv_cache_memory`).
    """

    def __init__(
        self,
        blocks: int,
        step_time: StepTime,
        *,
        block_size: int = 16,
        limits: SchedulerLimits | None = None,
        max_model_len: int | None = None,
    ) -> None:
        self.counters = Counters()
        self._cache = PrefixCache(blocks - 1, block_size)
        fitting = self._cache.blocks * block_size
        self.max_model_len = fitting if max_model_len is None else max_model_len
        if not 1 < self.max_model_len <= fitting:
            raise ValueError(
                f"max_model_len is {self.max_model_len}: it must be 2 or more, and {blocks} blocks of {block_size} "
                f"tokens hold at most {fitting}"
            )
        limits = limits or SchedulerLimits()
        self._step_time = step_time
        self._lag = int(limits.async_scheduling)
        self._scheduler = Scheduler(self._cache, limits, self.counters)
        self._arrivals: deque[Request] = deque()
        self._aborts: dict[Request, None] = {}
        self._events: list[Event] = []
        self._now = -inf
        # The steps planned: when the first started, when each ends, how many are completed and have their blocks.
        self._start = self._now
        self._ends: list[float] = []
        self._done = 0
        self._taken = 0

    @property
    def blocks(self) -> int:
        """KV blocks, the one never used included: vLLM's `num_gpu_blocks`."""
        return self._cache.blocks + 1

    @property
    def block_size(self) -> int:
        """Tokens a block."""
        return self._cache.block_size

    @property
    def capacity_tokens(self) -> int:
        """What vLLM calls `kv_cache_size_tokens` (v1/core/kv_cache_utils.py `get_kv_cache_capacity`). [tokens]"""
        size = self._cache.block_size
        return int((self._cache.blocks + 1) / -(-self.max_model_len // size) * self.max_model_len)

    @property
    def steps(self) -> int:
        """Steps completed since the start."""
        return self._scheduler.steps

    @property
    def evicted_blocks(self) -> int:
        """Cached blocks whose content was given up since the start."""
        return self._cache.evicted

    def submit(
        self,
        now: float,
        prompt: Prompt,
        max_output_tokens: int,
        *,
        output_id: Hashable = None,
        content: Prompt | None = None,
    ) -> Request:
        """Send a request; the engine looks at it between two steps.

        Args:
            now: The time. [s]
            prompt: What is asked.
            max_output_tokens: Length of the answer. [tokens]
            output_id: Content id of the answer; by default one that is like no other.
            content: Prompt and whole answer as one, for who knows the answer beforehand and names content otherwise
                than by `output_id`: in blocks of token ids, for one.

        Returns:
            The request; its events carry it.

        Raises:
            RequestRefused: The prompt is empty, no output is asked, or both together are longer than the model allows
                (renderers/params.py `TokenizeParams`, v1/engine/input_processor.py `_validate_prompt_len`).
            ValueError: Time goes backwards, or `content` is not as long as prompt and answer together.
        """
        if not prompt.tokens:
            raise RequestRefused("The prompt is empty: it needs a token.")
        if index(max_output_tokens) < 1:
            raise RequestRefused(f"{max_output_tokens} output tokens were asked for: ask for 1 or more.")
        if prompt.tokens + max_output_tokens > self.max_model_len:
            raise RequestRefused(
                f"This model's maximum context length is {self.max_model_len} tokens, but {max_output_tokens} output "
                f"tokens were asked for after a prompt of {prompt.tokens}: shorten one of them."
            )
        if content is not None and content.tokens != prompt.tokens + max_output_tokens:
            raise ValueError(
                f"the content has {content.tokens} tokens; prompt and answer together have "
                f"{prompt.tokens + max_output_tokens}"
            )
        self._run(now, start_now=False)
        request = Request(now, prompt, max_output_tokens, object() if output_id is None else output_id, content)
        self._arrivals.append(request)
        if not self._scheduler.waiting:  # else the head of the queue is stuck, and nobody passes it
            self._replan(self._lag)
        return request

    def abort(self, now: float, request: Request) -> None:
        """Give up a request at the end of the running step; one that is over already is left alone.

        Args:
            now: The time. [s]
            request: What `submit` returned.

        Raises:
            ValueError: Time goes backwards.
        """
        self._run(now, start_now=False)
        step_start = self._ends[self._done - 1] if self._done else self._start
        if request.phase is Phase.ARRIVED and (not self._ends or request.arrived >= step_start):
            self._arrivals.remove(request)
            request.phase = Phase.ABORTED
        elif request.phase not in {Phase.FINISHED, Phase.ABORTED}:
            self._aborts[request] = None
            self._replan(0)

    def advance(self, now: float) -> list[Event]:
        """Run until `now`, the steps that end at it included.

        Args:
            now: The time. [s]

        Returns:
            What happened since the last call, in order.

        Raises:
            ValueError: Time goes backwards, or the step time is not positive.
        """
        self._run(now, start_now=True)
        events, self._events = self._events, []
        return events

    def next_event(self) -> float | None:
        """When to advance to if nothing arrives before: no event comes earlier, though one need not come then. [s]

        Returns:
            A time, not before the last `now`; None while the engine has nothing to do.
        """
        if self._events:
            return self._now
        if self._ends:
            return self._ends[-1]
        return self._arrivals[0].arrived if self._arrivals else None

    def generated(self, request: Request) -> int:
        """Output tokens of a request as of the last `now`. [tokens]"""
        return self._scheduler.generated(request)

    # --- time ---------------------------------------------------------------------------------------------------------

    def _run(self, now: float, *, start_now: bool) -> None:
        if not now >= self._now:
            raise ValueError(f"time went from {self._now} to {now}: it can only move forward")
        self._now = now
        while True:
            if self._ends:
                if self._ends[-1] > now:
                    break
                self._finish_plan()
            elif self._arrivals and (self._arrivals[0].arrived < now or start_now):
                self._start = self._arrivals[0].arrived
                self._take_in(inf)
                self._plan(self._scheduler.schedule(self._start), self._start, single=False)
            else:
                return
        done = bisect_right(self._ends, now, self._done)
        if done > self._done:
            self._take_blocks(done + self._lag)
            self._scheduler.complete(done - self._done, self._ends[done - 1])
            self._done = done
            self._take_in(self._ends[done - 2] if done > 1 else self._start)
            self._publish()

    def _plan(self, load: StepLoad | None, start: float, *, single: bool) -> None:
        """Set the ends of the step just scheduled and of those that must follow it."""
        self._start = start
        self._done = 0
        self._taken = 1
        self._ends = []
        if load is None:
            return
        scheduler = self._scheduler
        decodes = load.decodes
        only_decodes = decodes == load.tokens
        steps = 1 if single or scheduler.preempted or not only_decodes else scheduler.quiet_steps()
        end = self._step_end(start, load)
        self._ends.append(end)
        free = self._cache.free
        context = load.read
        for ahead in range(1, steps):
            free -= scheduler.new_blocks(ahead)
            if free < 0:
                break
            context += decodes
            end = self._step_end(end, StepLoad(decodes, decodes, decodes, context, context))
            self._ends.append(end)

    def _step_end(self, start: float, load: StepLoad) -> float:
        end = start + self._step_time(load)
        if not end > start:
            raise ValueError(f"a step of {load} ends at {end}, but started at {start}: a step time must be positive")
        return end

    def _replan(self, steps: int) -> None:
        """Take back what is planned beyond the running step and `steps` more."""
        del self._ends[self._done + 1 + steps :]

    def _take_blocks(self, steps: int) -> None:
        """See to it that the first `steps` of the plan have their blocks."""
        steps = min(steps, len(self._ends))
        if steps > self._taken:
            self._scheduler.take_decode_blocks(self._taken - self._done, steps - self._done)
            self._taken = steps

    def _finish_plan(self) -> None:
        """Complete what is planned, schedule the next step and plan from there."""
        scheduler = self._scheduler
        ends = self._ends
        end = ends[-1]
        last_start = ends[-2] if len(ends) > 1 else self._start
        self._take_blocks(len(ends))
        if len(ends) > self._done + 1:
            scheduler.complete(len(ends) - 1 - self._done, last_start)
        gone, self._aborts = self._aborts, {}
        first, last = scheduler.complete(1, end, gone)
        self._take_in(last_start)
        single = False
        if self._lag:
            load = scheduler.schedule(last_start)
            leaving = scheduler.drop(gone) + last
            scheduler.release(leaving)
            self._publish()
            if load is None:  # all that could run was leaving: nothing is under way, so the next look is now
                self._take_in(end)
                load = scheduler.schedule(end)
            # What was freed, or has arrived meanwhile, is seen one step from now; who is gone still runs until then.
            single = bool(gone or (leaving and scheduler.waiting) or (self._arrivals and not scheduler.waiting))
        else:
            scheduler.release(scheduler.drop(gone) + last)
            self._publish()
            self._take_in(end)
            load = scheduler.schedule(end)
        self._plan(load, end, single=single)
        self._events += [FirstToken(end, request) for request in first]
        self._events += [Finished(end, request) for request in last]

    def _take_in(self, until: float) -> None:
        """Let the scheduler see what arrived before `until`, each at the end of the step that it arrived in."""
        arrivals = self._arrivals
        ends = self._ends
        while arrivals and arrivals[0].arrived < until:
            request = arrivals.popleft()
            arrived = request.arrived
            request.queued = ends[bisect_right(ends, arrived)] if ends and arrived >= self._start else self._start
            request.phase = Phase.WAITING
            self._scheduler.waiting.append(request)

    def _publish(self) -> None:
        counters = self.counters
        scheduler = self._scheduler
        counters.kv_cache_usage_perc = 1.0 - self._cache.free / self._cache.blocks
        counters.num_requests_running = len(scheduler.running)
        counters.num_requests_waiting = len(scheduler.waiting)
        counters.prefix_cache_queries = scheduler.queries
        counters.prefix_cache_hits = scheduler.hits
