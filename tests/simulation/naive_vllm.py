"""vLLM 0.32 one block and one token at a time: what the engine must agree with, written for plainness only.

Follows v1/core/block_pool.py, v1/core/single_type_kv_cache_manager.py, v1/core/sched/scheduler.py,
v1/core/sched/async_scheduler.py and v1/engine/core.py function by function, for one group of full attention.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from concur_agents.simulation import Prompt, SchedulerLimits, StepLoad

if TYPE_CHECKING:
    from collections.abc import Callable


def tokens_of(prompt: Prompt) -> list[tuple[Any, int]]:
    return [(identity, offset) for identity, length in prompt.segments for offset in range(length)]


class Hashes:
    """Block hashes: equal numbers for equal content up to the block's end."""

    def __init__(self, block_size: int):
        self.block_size = block_size
        self._known: dict[Any, int] = {}

    def of(self, tokens: list[Any]) -> list[int]:
        hashes: list[int] = []
        parent = 0
        for start in range(0, len(tokens) - self.block_size + 1, self.block_size):
            parent = self._known.setdefault((parent, *tokens[start : start + self.block_size]), len(self._known) + 1)
            hashes.append(parent)
        return hashes


@dataclass(eq=False)
class Block:
    number: int
    users: int = 0
    hash: int | None = None


class Pool:
    def __init__(self, blocks: int):
        self.queue: deque[Block] = deque(Block(number) for number in range(blocks))
        self.total = blocks
        self.cached: dict[int, dict[int, Block]] = {}
        self.evicted = 0

    def look_up(self, hashes: list[int], limit: int) -> list[Block]:
        found = []
        for hash_ in hashes[:limit]:
            if hash_ not in self.cached:
                break
            found.append(next(iter(self.cached[hash_].values())))
        return found

    def touch(self, blocks: list[Block]) -> None:
        for block in blocks:
            if not block.users:
                self.queue.remove(block)
            block.users += 1

    def take(self, count: int) -> list[Block]:
        assert count <= len(self.queue)
        taken = [self.queue.popleft() for _ in range(count)]
        for block in taken:
            if block.hash is not None:
                self.evicted += 1
                copies = self.cached[block.hash]
                del copies[block.number]
                if not copies:
                    del self.cached[block.hash]
                block.hash = None
            block.users = 1
        return taken

    def cache(self, block: Block, hash_: int) -> None:
        block.hash = hash_
        self.cached.setdefault(hash_, {})[block.number] = block

    def free(self, blocks: list[Block]) -> None:
        """Free blocks given in the order of their content."""
        first, last = [], []
        for block in reversed(blocks):
            block.users -= 1
            if not block.users:
                (first if block.hash is None else last).append(block)
        self.queue.extendleft(reversed(first))
        self.queue.extend(last)

    def idle_hashes(self) -> list[int]:
        """Content of the free blocks, the next to be evicted first."""
        return [block.hash for block in self.queue if block.hash is not None]

    @property
    def usage(self) -> float:
        return 1.0 - len(self.queue) / self.total


@dataclass(eq=False)
class NaiveRequest:
    arrived: float
    prompt_tokens: int
    max_output_tokens: int
    hashes: list[int]
    known: int = 0  # prompt and output tokens known to the scheduler: vLLM's num_tokens
    computed: int = 0
    placeholders: int = 0
    in_flight: int = 0
    blocks: list[Block] = field(default_factory=list)
    cached_blocks: int = 0
    status: str = "waiting"
    preemptions: int = 0
    unreported: int = 0
    cached_tokens: int = -1
    queued: float = -1.0
    scheduled: float = -1.0
    first_token: float = -1.0
    finished: float = -1.0
    cut_off: bool = False  # preempted since the step in flight was scheduled

    @property
    def outputs(self) -> int:
        return self.known - self.prompt_tokens


@dataclass
class Scheduled:
    request: NaiveRequest
    tokens: int
    before: int  # tokens computed before this step
    decodes: bool  # one token after its first output token, not (re)computation
    samples: bool = False  # whether this step gives an output token


Batch = list[Scheduled]


class NaiveScheduler:
    def __init__(self, blocks: int, block_size: int, limits: SchedulerLimits):
        self.pool = Pool(blocks - 1)
        self.block_size = block_size
        self.limits = limits
        self.watermark = int(limits.watermark * blocks)
        self.waiting: deque[NaiveRequest] = deque()
        self.running: list[NaiveRequest] = []
        self.queries = self.hits = self.preemptions = self.generated = self.prompt_tokens = 0

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_size)

    def cache_blocks(self, request: NaiveRequest, tokens: int) -> None:
        for at in range(request.cached_blocks, tokens // self.block_size):
            self.pool.cache(request.blocks[at], request.hashes[at])
        request.cached_blocks = max(request.cached_blocks, tokens // self.block_size)

    def free(self, request: NaiveRequest) -> None:
        self.pool.free(request.blocks)
        request.blocks = []
        request.cached_blocks = 0

    def allocate(self, request: NaiveRequest, tokens: int) -> bool:
        needed = self.blocks_for(request.computed + tokens) - len(request.blocks)
        if needed > len(self.pool.queue):
            return False
        request.blocks += self.pool.take(needed)
        self.cache_blocks(request, min(request.computed + tokens, request.known))
        return True

    def preempt(self, request: NaiveRequest) -> None:
        self.free(request)
        request.status = "preempted"
        request.computed = request.placeholders = 0
        request.cut_off = request.in_flight > 0
        request.preemptions += 1
        request.unreported += 1
        self.waiting.appendleft(request)

    def schedule(self, now: float) -> Batch:
        batch: Batch = []
        budget, preempted = self.schedule_running(batch)
        if not preempted:
            self.schedule_waiting(batch, budget, now)
        for one in batch:
            request = one.request
            request.computed += one.tokens
            request.in_flight += one.tokens
            if request.computed == request.known + request.placeholders:
                one.samples = True
                request.status = "decoding"
                if self.limits.async_scheduling:
                    request.placeholders += 1
        return batch

    def schedule_running(self, batch: Batch) -> tuple[int, bool]:
        budget = self.limits.max_num_batched_tokens
        preempted = False
        at = 0
        while at < len(self.running) and budget:
            request = self.running[at]
            over = request.prompt_tokens + request.max_output_tokens
            if request.placeholders and request.computed + 2 - request.placeholders >= over:
                at += 1
                continue
            tokens = min(request.known + request.placeholders - request.computed, budget)
            while not (fits := self.allocate(request, tokens)):
                preempted = True
                victim = self.running.pop()
                self.preempt(victim)
                if victim is request:
                    break
            if not fits:
                break
            batch.append(Scheduled(request, tokens, request.computed, request.status == "decoding"))
            budget -= tokens
            at += 1
        return budget, preempted

    def schedule_waiting(self, batch: Batch, budget: int, now: float) -> None:
        while budget and self.waiting and len(self.running) < self.limits.max_num_seqs:
            request = self.waiting[0]
            found = self.pool.look_up(request.hashes, (request.known - 1) // self.block_size)
            hit = len(found) * self.block_size
            free_hits = sum(not block.users for block in found)
            needed = self.blocks_for(request.known) - len(found) + free_hits
            if needed + (self.watermark if self.running else 0) > len(self.pool.queue):
                return
            self.waiting.popleft()
            if not request.preemptions:
                self.queries += request.known
                self.hits += hit
                request.cached_tokens = hit
                request.scheduled = now
            self.pool.touch(found)
            request.blocks = list(found)
            request.cached_blocks = len(found)
            request.computed = hit
            request.status = "prefilling"
            self.running.append(request)
            tokens = min(request.known - hit, budget)
            assert self.allocate(request, tokens)
            batch.append(Scheduled(request, tokens, hit, decodes=False))
            budget -= tokens

    def update(self, batch: Batch, now: float) -> None:
        stopped = []
        for one in batch:
            request = one.request
            request.in_flight -= one.tokens
            if request.status == "aborted":
                continue
            stale = request.cut_off
            request.cut_off = False
            if not one.samples:
                continue  # a chunk that is not the last
            request.known += 1
            self.generated += 1
            if request.outputs == 1:
                request.first_token = now
                self.prompt_tokens += request.prompt_tokens
            self.preemptions += request.unreported
            request.unreported = 0
            if not stale and self.limits.async_scheduling:
                request.placeholders -= 1
                self.cache_blocks(request, request.computed - request.placeholders)
            if request.outputs == request.max_output_tokens:
                request.finished = now
                stopped.append((request, stale))
        for request, stale in stopped:
            if stale:
                self.waiting.remove(request)
            else:
                self.free(request)
                self.running.remove(request)
            request.status = "finished"

    def abort(self, request: NaiveRequest) -> None:
        if request.status in {"finished", "aborted"}:
            return
        if request in self.waiting:
            self.waiting.remove(request)
        else:
            self.running.remove(request)
            self.free(request)
        request.status = "aborted"


def load_of(batch: Batch) -> StepLoad:
    return StepLoad(
        tokens=sum(one.tokens for one in batch),
        requests=len(batch),
        decodes=sum(one.decodes for one in batch),
        attended=sum(sum(range(one.before + 1, one.before + one.tokens + 1)) for one in batch),
        read=sum(one.before + one.tokens for one in batch),
        largest=max(
            (sum(range(one.before + 1, one.before + one.tokens + 1)) for one in batch if not one.decodes), default=0
        ),
    )


@dataclass(frozen=True)
class Snapshot:
    """What a metrics page would say at the end of a step."""

    time: float
    usage: float
    running: int
    waiting: int
    queries: int
    hits: int
    preemptions: int
    prompt_tokens: int
    generated: int
    evicted: int
    idle: tuple[int, ...]


@dataclass
class Submission:
    time: float
    prompt: Prompt
    max_output_tokens: int
    output_id: Any
    aborted: float | None = None


class NaiveServer:
    """v1/engine/core.py: the busy loop, with one step under way, or two with asynchronous scheduling."""

    def __init__(
        self,
        submissions: list[Submission],
        *,
        blocks: int,
        block_size: int,
        limits: SchedulerLimits,
        step_time: Callable[[StepLoad], float],
        hashes: Hashes,
    ):
        assert all(one.time <= other.time for one, other in pairwise(submissions))
        self.scheduler = NaiveScheduler(blocks, block_size, limits)
        self.step_time = step_time
        self.depth = 1 + limits.async_scheduling
        self.requests = [
            NaiveRequest(
                arrived=one.time,
                prompt_tokens=one.prompt.tokens,
                max_output_tokens=one.max_output_tokens,
                hashes=hashes.of(tokens_of(one.prompt.then((one.output_id, one.max_output_tokens)))),
                known=one.prompt.tokens,
            )
            for one in submissions
        ]
        self.arrivals = deque(self.requests)
        aborts = [(one.aborted, at) for at, one in enumerate(submissions) if one.aborted is not None]
        self.aborts = deque(sorted(aborts))
        self.flying: deque[Batch] = deque()
        self.now = 0.0
        self.snapshots: list[Snapshot] = []

    @property
    def has_requests(self) -> bool:
        return bool(self.scheduler.running or self.scheduler.waiting)

    def run(self) -> None:
        """Serve everything."""
        while True:
            if not self.flying and not self.has_requests:
                if not self.arrivals:
                    return
                self.now = max(self.now, self.arrivals[0].arrived)
                self.take_in(idle=True)
            while len(self.flying) < self.depth and self.has_requests:
                batch = self.scheduler.schedule(self.now)
                if not batch:
                    break
                self.flying.append(batch)
            batch = self.flying.popleft()
            self.now += self.step_time(load_of(batch))
            self.process_aborts()
            self.scheduler.update(batch, self.now)
            self.snapshots.append(self.snapshot())
            self.take_in(idle=False)

    def take_in(self, *, idle: bool) -> None:
        arrivals = self.arrivals
        while arrivals and (arrivals[0].arrived < self.now or (idle and arrivals[0].arrived == self.now)):
            request = arrivals.popleft()
            request.queued = self.now
            self.scheduler.waiting.append(request)

    def process_aborts(self) -> None:
        while self.aborts and self.aborts[0][0] < self.now:
            request = self.requests[self.aborts.popleft()[1]]
            if request in self.arrivals:
                self.arrivals.remove(request)
                request.status = "aborted"
            else:
                self.scheduler.abort(request)

    def snapshot(self) -> Snapshot:
        scheduler = self.scheduler
        return Snapshot(
            time=self.now,
            usage=scheduler.pool.usage,
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            queries=scheduler.queries,
            hits=scheduler.hits,
            preemptions=scheduler.preemptions,
            prompt_tokens=scheduler.prompt_tokens,
            generated=scheduler.generated,
            evicted=scheduler.pool.evicted,
            idle=tuple(scheduler.pool.idle_hashes()),
        )
