"""vLLM's V1 scheduler, first come first served, for models with full attention and no speculative decoding.

Rules, with their place in vLLM 0.32 (v1/core/sched/scheduler.py unless said otherwise):

- A step has a budget of tokens; running requests come before waiting ones, each in the order of admission, and a
  prompt that does not fit the budget is computed in chunks: `schedule`. As decoding requests take one token each, at
  most one prompt is ever half computed, and it is the last of the running.
- A waiting request is admitted, in order and only in a step that preempted nobody, while there is budget and fewer
  than `max_num_seqs` run, if its whole prompt fits the free blocks: those it would newly take, and those of its cached
  ones that nobody uses, are counted (`scheduler_reserve_full_isl`; v1/core/kv_cache_manager.py `allocate_slots`;
  v1/core/single_type_kv_cache_manager.py `get_num_blocks_to_allocate`). The first that does not fit stops all behind
  it. The blocks of later chunks are checked, not kept: others may take them.
- The last token of a prompt is always computed, so at most the whole blocks before it can be hits:
  `KVCacheManager.get_computed_blocks`.
- The blocks of a chunk are in the cache from the moment it is scheduled: `allocate_slots`, `cache_blocks`.
- A running request that finds no free block preempts the last of the running, itself if need be; that one loses its
  blocks, goes to the head of the queue and computes prompt and output again: `_preempt_request`.
- Hits are counted when a request is first scheduled: `KVCacheManager.record_prefix_cache_stats`.

Decoding is not stored per request: all decoding requests gain one token a step, so a request's count follows from the
number of steps, and a step costs the same for one of them as for a thousand.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

from concur_agents.simulation.request import Phase
from concur_agents.simulation.step import StepLoad

if TYPE_CHECKING:
    from collections.abc import Collection

    from concur_agents.simulation.blocks import PrefixCache
    from concur_agents.simulation.counters import Counters
    from concur_agents.simulation.limits import SchedulerLimits
    from concur_agents.simulation.request import Request


class Scheduler:
    """Who runs in the next step, and what the steps did to them.

    One step is `schedule`, `complete`, `drop`, `release`; with asynchronous scheduling the next step is scheduled
    between `complete` and `drop`. Further steps in which only decoding goes on: `take_decode_blocks`, `complete`.

    Args:
        cache: The blocks.
        limits: The server's limits.
        counters: Where outputs are counted.

    Attributes:
        waiting: The waiting queue.
        running: The running requests, by order of admission; the finished stay until released.
        steps: Steps completed.
        decodes: Requests that decode.
        context: Tokens that they have computed. [tokens]
        preempted: Whether the last `schedule` preempted somebody.
        queries: Tokens looked up in the cache. [tokens]
        hits: Tokens found there. [tokens]
    """

    def __init__(self, cache: PrefixCache, limits: SchedulerLimits, counters: Counters) -> None:
        self.waiting: deque[Request] = deque()
        self.running: dict[int, Request] = {}
        self.steps = 0
        self.decodes = 0
        self.context = 0
        self.preempted = False
        self.queries = 0
        self.hits = 0
        self._cache = cache
        self._limits = limits
        self._counters = counters
        self._size = cache.block_size
        # Asynchronous scheduling settles a token when its output comes, not when it is scheduled
        # (v1/core/sched/async_scheduler.py `_update_request_with_output`).
        self._lag = int(limits.async_scheduling)
        # vLLM counts the block that it holds back (v1/core/kv_cache_manager.py `KVCacheManager.__init__`).
        self._watermark = int(limits.watermark * (cache.blocks + 1))
        self._order = count(1)
        self._finishes: list[tuple[int, int, Request]] = []  # a heap of (last step, order, request)
        # How many decoding requests start a new block with their next token, by step number modulo block size.
        self._block_starts = [0] * cache.block_size
        self._chunks: list[tuple[Request, int]] = []
        self._half_done: Request | None = None
        self._preempted_with_output: list[Request] = []  # since `release`; the output under way tells of it

    # --- making a step ------------------------------------------------------------------------------------------------

    def schedule(self, now: float) -> StepLoad | None:
        """Fill the next step and take its blocks.

        Args:
            now: When the scheduler looks: the time stamp of admissions. [s]

        Returns:
            What the step computes; None if there is nothing to run.
        """
        self.preempted = False
        self._chunks = []
        new_blocks = self._block_starts[self.steps % self._size]
        if new_blocks <= self._cache.free:
            self._cache.take(new_blocks)
        else:
            self._take_by_preempting()
        budget = self._limits.max_num_batched_tokens - self.decodes
        if self._half_done is not None and budget:
            budget -= self._next_chunk(self._half_done, budget)
        if self.waiting and not self.preempted:
            self._admit(now, budget)
        return self._load()

    def quiet_steps(self) -> int:
        """Steps until the next finish, the one just scheduled included, if it decodes only and nothing intervenes."""
        finishes = self._finishes
        while finishes and finishes[0][0] != finishes[0][2].last_step:
            heappop(finishes)  # it was preempted or dropped since
        return finishes[0][0] - self.steps

    def new_blocks(self, ahead: int) -> int:
        """Blocks that the decoding requests need for the step after `ahead` more. [blocks]"""
        return self._block_starts[(self.steps + ahead) % self._size]

    def take_decode_blocks(self, first: int, last: int) -> None:
        """Take the blocks of decoding steps, counted from the next to complete (0); `last` is left out."""
        self._cache.take(sum(self.new_blocks(ahead) for ahead in range(first, last)))

    def _load(self) -> StepLoad | None:
        decodes = self.decodes
        requests = tokens = decodes
        attended = read = self.context + decodes
        largest = 0
        for request, chunk in self._chunks:
            requests += 1
            tokens += chunk
            work = chunk * (request.computed - chunk) + chunk * (chunk + 1) // 2
            attended += work
            largest = max(largest, work)
            read += request.computed
        return StepLoad(tokens, requests, decodes, attended, read, largest) if requests else None

    def _take_by_preempting(self) -> None:
        order = list(self.running.values())
        at = 0
        while at < len(order):
            request = order[at]
            if request.phase is Phase.DECODING and not (self.steps - request.joined + request.computed) % self._size:
                while not self._cache.free:
                    victim = order.pop()
                    self._preempt(victim)
                    if victim is request:
                        return
                self._cache.take(1)
            at += 1

    def _next_chunk(self, request: Request, budget: int) -> int:
        """Schedule more of a prompt that was begun before; returns its tokens."""
        chunk = min(request.prompt.tokens + request.generated - request.computed, budget)
        new_blocks = self._blocks(request.computed + chunk) - self._blocks(request.computed)
        if new_blocks > self._cache.free:
            self._preempt(request)
            return 0
        self._compute(request, chunk, new_blocks)
        return chunk

    def _admit(self, now: float, budget: int) -> None:
        cache = self._cache
        while budget and self.waiting and len(self.running) < self._limits.max_num_seqs:
            request = self.waiting[0]
            tokens = request.prompt.tokens + request.generated
            match = cache.match(request.content, (tokens - 1) // self._size)
            needed = self._blocks(tokens) - match.blocks + match.free
            if needed + (self._watermark if self.running else 0) > cache.free:
                return
            self.waiting.popleft()
            found = match.blocks * self._size
            if not request.preemptions:
                request.scheduled = now
                request.cached_tokens = found
                self.queries += tokens
                self.hits += found
            request.holding = cache.hold(match)
            request.computed = found
            request.phase = Phase.PREFILLING
            request.order = next(self._order)
            self.running[request.order] = request
            chunk = min(tokens - found, budget)
            self._compute(request, chunk, self._blocks(found + chunk) - match.blocks)
            budget -= chunk

    def _compute(self, request: Request, chunk: int, new_blocks: int) -> None:
        self._cache.take(new_blocks)
        request.computed += chunk
        self._cache.name(request.holding, request.content, request.computed // self._size)
        self._chunks.append((request, chunk))
        if request.computed < request.prompt.tokens + request.generated:
            self._half_done = request
        elif request is self._half_done:
            self._half_done = None

    def _preempt(self, victim: Request) -> None:
        self.preempted = True
        self._free(victim, unsettled=self._lag)
        del self.running[victim.order]
        if victim is self._half_done:
            self._half_done = None
        victim.preemptions += 1
        victim.unreported += 1
        if self._lag and victim.phase in {Phase.DECODING, Phase.FINISHED}:
            self._preempted_with_output.append(victim)
        if victim.phase in {Phase.FINISHED, Phase.ABORTED}:
            return  # it was leaving, but with asynchronous scheduling still held its place
        victim.phase = Phase.WAITING
        victim.computed = 0
        victim.last_step = 0
        self.waiting.appendleft(victim)

    # --- after steps --------------------------------------------------------------------------------------------------

    def complete(self, steps: int, now: float, gone: Collection[Request] = ()) -> tuple[list[Request], list[Request]]:
        """Hand out the tokens of steps that have run.

        Args:
            steps: How many; those before the last were of decoding only, and nobody finished in them.
            now: When the last of them ended. [s]
            gone: Requests whose client went away during the one step: they get nothing.

        Returns:
            The requests that got their first token, and those that got their last, each in order of admission.
        """
        decodes = self.decodes
        self.steps += steps
        self.context += decodes * steps
        outputs = decodes * steps - sum(request.phase is Phase.DECODING for request in gone)
        first: list[Request] = []
        last: list[Request] = []
        finishes = self._finishes
        while finishes and finishes[0][0] <= self.steps:
            step, _, request = heappop(finishes)
            if request.last_step == step and request.phase is Phase.DECODING:
                self._stop_decoding(request)
                self._finish(request, now, gone, last)
        for request, _ in self._chunks:
            if request is self._half_done or request.phase is not Phase.PREFILLING:
                continue
            request.generated += 1
            if request not in gone:
                outputs += 1
                if request.generated == 1:
                    request.first_token = now
                    first.append(request)
                    self._counters.count_first_token(request)
                self._counters.num_preemptions += request.unreported
                request.unreported = 0
            if request.generated == request.max_output_tokens:
                self._finish(request, now, gone, last)
            else:
                self._start_decoding(request)
        self._chunks = []
        if outputs:
            self._counters.count_outputs(outputs, steps)
        return first, last

    def drop(self, requests: Collection[Request]) -> list[Request]:
        """Take out requests whose client has gone.

        Returns:
            The ones that hold blocks, to be released.
        """
        if any(request.phase is Phase.WAITING for request in requests):
            self.waiting = deque(request for request in self.waiting if request not in requests)
        holding = []
        for request in requests:
            if request.phase is Phase.DECODING:
                self._stop_decoding(request)
                request.computed += self._lag  # the next step was scheduled with it
            if request is self._half_done:
                self._half_done = None
            if request.order in self.running:
                holding.append(request)
            request.phase = Phase.ABORTED
            request.last_step = 0
        return holding

    def release(self, requests: Collection[Request]) -> None:
        """Free the blocks of requests that were dropped or got their last token, in this order."""
        for request in self._preempted_with_output:
            if request.phase is not Phase.ABORTED:
                self._counters.num_preemptions += request.unreported
                request.unreported = 0
        self._preempted_with_output.clear()
        for request in requests:
            if self.running.pop(request.order, None) is not None:  # else it was preempted since
                self._free(request, unsettled=0 if request.phase is Phase.FINISHED else self._lag)
            if request.phase is Phase.FINISHED:
                self._counters.count_finished(request)

    def generated(self, request: Request) -> int:
        """Output tokens that a request has by now. [tokens]"""
        return request.generated + (self.steps - request.joined if request.phase is Phase.DECODING else 0)

    # --- small parts --------------------------------------------------------------------------------------------------

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self._size)

    @staticmethod
    def _finish(request: Request, now: float, gone: Collection[Request], finished: list[Request]) -> None:
        if request in gone:
            request.phase = Phase.ABORTED
        else:
            request.phase = Phase.FINISHED
            request.finished = now
            finished.append(request)

    def _start_decoding(self, request: Request) -> None:
        request.phase = Phase.DECODING
        request.joined = self.steps
        request.last_step = self.steps + request.max_output_tokens - request.generated
        heappush(self._finishes, (request.last_step, request.order, request))
        self.decodes += 1
        self.context += request.computed
        self._block_starts[(self.steps - request.computed) % self._size] += 1

    def _stop_decoding(self, request: Request) -> None:
        gained = self.steps - request.joined
        request.generated += gained
        request.computed += gained
        self.decodes -= 1
        self.context -= request.computed
        self._block_starts[(self.steps - request.computed) % self._size] -= 1

    def _free(self, request: Request, unsettled: int) -> None:
        """Free a request's blocks; of its last `unsettled` tokens it is not known yet that they can be cached."""
        if request.phase is Phase.DECODING:
            self._stop_decoding(request)
        full = max(request.holding.blocks, (request.computed - unsettled) // self._size)
        self._cache.name(request.holding, request.content, full)
        self._cache.release(request.holding, nameless=self._blocks(request.computed) - full)
