"""vLLM's block pool with prefix caching, kept in runs of blocks instead of single ones.

Rules, with their place in vLLM 0.32:

- A full block is found again by all content up to its end: v1/core/kv_cache_utils.py `get_request_block_hasher`;
  a look-up stops at its first miss: v1/core/single_type_kv_cache_manager.py
  `FullAttentionManager.find_longest_cache_hit`.
- Blocks in use are counted by their users; at none they join the queue of free blocks but keep their content, and a
  hit takes them out again: v1/core/block_pool.py `free_blocks`, `touch`.
- Whoever leaves frees its last block first; blocks without cached content (never used, or not full) are taken before
  all others, then the ones longest free: `KVCacheManager.free`, `BlockPool.free_blocks`, `FreeKVCacheBlockQueue`.
- Equal blocks are not merged: of several copies the oldest answers (`BlockHashToBlockMap.get_one_block`).
- One block is held back for ever (`BlockPool.null_block`): the caller gives the number without it.

One difference: the blocks of an output enter the cache when its request leaves the batch, not as each one fills. It
shows only to a prompt that quotes an output still being written.

A prefix is in use whenever what follows it is, and is freed after it. So among free blocks a continuation is always
evicted before what it continues, and a run of blocks with the same users can be one object: an extent. Requests cost
the number of extents they touch, however many blocks those have.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple

from concur_agents.simulation.content import Prompt

if TYPE_CHECKING:
    from collections.abc import Hashable

_NOTHING = Prompt()


class _Run:
    """Consecutive blocks of one content that the tree need not tell apart; a node of the tree of cached content.

    Attributes:
        above: The run that this one continues, from its end or from within.
        key: Place and content of this run's first block (`Prompt.key`).
        content: A prompt that contains the run.
        first_segment: The segment of `content` that the run's first token is in.
        start: First block, counted from the start of the prompt.
        end: One past the last block.
        below: The runs that continue this one, by their key.
        copies: The blocks that hold this content, oldest first; each extent covers the whole run.
    """

    __slots__ = ("above", "below", "content", "copies", "end", "first_segment", "key", "start")

    def __init__(
        self,
        above: _Run | None,
        key: tuple[Hashable, ...],
        content: Prompt,
        first_segment: int,
        *,
        start: int,
        end: int,
    ) -> None:
        self.above = above or self
        self.key = key
        self.content = content
        self.first_segment = first_segment
        self.start = start
        self.end = end
        self.below: dict[tuple[Hashable, ...], _Run] = {}
        self.copies: list[Extent] = []


class Extent:
    """The physical blocks of one copy of a run: same users, and neighbours in the free queue.

    Attributes:
        run: The content held.
        users: Requests that hold these blocks; at 0 they are in the free queue.
        older: The extent before this one in the free queue.
        newer: The extent after it.
        upper: The blocks that were cut off from this extent's beginning while it was held.
    """

    __slots__ = ("newer", "older", "run", "upper", "users")

    def __init__(self, run: _Run, users: int) -> None:
        self.run = run
        self.users = users
        self.older = self.newer = self.upper = _NOWHERE


_NOWHERE: Extent = Extent.__new__(Extent)
"""What a link that leads nowhere leads to: an extent left behind must not keep its former neighbours in memory."""


class Match(NamedTuple):
    """What a look-up found.

    Attributes:
        blocks: Blocks found. [blocks]
        free: Of those, the ones nobody uses: they leave the free queue when held. [blocks]
        runs: The runs they are in; each is needed up to where the next one starts.
    """

    blocks: int
    free: int
    runs: list[_Run]


class Holding:
    """The cached blocks that one request holds, from the start of its content.

    Attributes:
        blocks: How many. [blocks]
        extents: The extents, in the order of the content.
        starts: The first block of each when it was taken: a later cut leaves the beginning to `Extent.upper`.
    """

    __slots__ = ("blocks", "extents", "starts")

    def __init__(self) -> None:
        self.blocks = 0
        self.extents: list[Extent] = []
        self.starts: list[int] = []


class PrefixCache:
    """A pool of KV blocks that keeps the content of free blocks until they are needed.

    Args:
        blocks: Usable blocks: vLLM's `num_gpu_blocks` − 1.
        block_size: Tokens a block.

    Attributes:
        blocks: Usable blocks.
        block_size: Tokens a block.
        blank: Free blocks without content.
        idle: Free blocks with content.
        evicted: Blocks whose content was given up since the start.

    Raises:
        ValueError: A size is not positive.
    """

    def __init__(self, blocks: int, block_size: int) -> None:
        if blocks < 1 or block_size < 1:
            raise ValueError(f"{blocks} blocks of {block_size} tokens: both must be 1 or more")
        self.blocks = blocks
        self.block_size = block_size
        self.blank = blocks
        self.idle = 0
        self.evicted = 0
        self._root = _Run(None, (), _NOTHING, 0, start=0, end=0)
        self._queue = Extent(self._root, users=0)  # its `newer` is evicted first, its `older` last
        self._queue.older = self._queue.newer = self._queue

    @property
    def free(self) -> int:
        """Blocks that nobody uses, with content or without (v1/core/block_pool.py `get_num_free_blocks`)."""
        return self.blank + self.idle

    def match(self, content: Prompt, limit: int) -> Match:
        """Look up the longest cached beginning; changes nothing.

        Args:
            content: What to look for.
            limit: Look no further than this. [blocks]

        Returns:
            What was found.
        """
        size = self.block_size
        run = self._root
        runs: list[_Run] = []
        at = free = 0
        while at < limit:
            found = run.below.get(content.key(at * size, at * size + size))
            if found is None:
                break
            run = found
            runs.append(run)
            end = self._agreement(run, content, limit)
            if not run.copies[0].users:
                free += end - at
            at = end
        return Match(at, free, runs)

    def hold(self, match: Match) -> Holding:
        """Take the blocks of a look-up into use; nothing may have changed since.

        Args:
            match: What `match` returned.

        Returns:
            What the request now holds.
        """
        holding = Holding()
        holding.blocks = match.blocks
        before: _Run | None = None  # the run above, if it too was free: then both become one
        ends = [run.start for run in match.runs[1:]]
        ends.append(match.blocks)
        for found, end in zip(match.runs, ends, strict=False):
            run = found if found.end == end else self._cut(found, end)
            extent = run.copies[0]
            if extent.users:
                before = None
            else:
                self._unqueue(extent)
                if before is not None and len(before.below) == len(before.copies) == len(run.copies) == 1:
                    self._join(before, run)
                    holding.extents.pop()
                    holding.starts.pop()
                extent.upper = _NOWHERE
                before = run
            extent.users += 1
            holding.extents.append(extent)
            holding.starts.append(run.start)
        return holding

    def take(self, count: int) -> None:
        """Take free blocks for new tokens, the ones longest free first, and give up what they held.

        Args:
            count: At most `free`. [blocks]

        Raises:
            ValueError: There are not so many.
        """
        if count > self.free:
            raise ValueError(f"{count} blocks asked for, {self.free} free")
        blank = min(self.blank, count)
        self.blank -= blank
        count -= blank
        self.idle -= count
        self.evicted += count
        while count:
            extent = self._queue.newer
            run = extent.run
            size = run.end - run.start
            if size > count and len(run.copies) == 1:
                run.end -= count
                return
            if size > count:
                self._cut(run, run.end - count)
                size = count
            self._unlink(extent)
            run.copies.remove(extent)
            if not run.copies:
                del run.above.below[run.key]
            count -= size

    def name(self, holding: Holding, content: Prompt, blocks: int) -> None:
        """Let the blocks that a request has filled be found by their content.

        Args:
            holding: What the request holds; grows to `blocks`.
            content: What the request has computed, at least `blocks` long.
            blocks: All full blocks of the request so far; the ones beyond `holding.blocks` it took with `take`.
        """
        size = self.block_size
        while (at := holding.blocks) < blocks:
            extent = holding.extents[-1] if holding.extents else self._queue
            run = extent.run
            key = content.key(at * size, at * size + size)
            known = run.below.get(key)
            if known is None and extent.users == 1 == len(run.copies):
                run.content = content
                run.end = holding.blocks = blocks
                return
            if known is None:
                first_segment = bisect_right(content.ends, at * size)
                known = run.below[key] = _Run(run, key, content, first_segment, start=at, end=blocks)
            else:
                end = self._agreement(known, content, blocks)
                if end < known.end:
                    known = self._cut(known, end)
            extent = Extent(known, users=1)
            known.copies.append(extent)
            holding.extents.append(extent)
            holding.starts.append(at)
            holding.blocks = known.end

    def release(self, holding: Holding, nameless: int) -> None:
        """Free what a request holds, its end first.

        Args:
            holding: What it holds in the cache; empty afterwards.
            nameless: Its blocks that are not full. [blocks]
        """
        self.blank += nameless
        queue = self._queue
        while holding.extents:
            extent = holding.extents.pop()
            start = holding.starts.pop()
            while True:
                run = extent.run
                extent.users -= 1
                if not extent.users:
                    self.idle += run.end - run.start
                    last = queue.older
                    extent.older, extent.newer = last, queue
                    last.newer = queue.older = extent
                if run.start == start:
                    break
                extent = extent.upper
        holding.blocks = 0

    def _agreement(self, run: _Run, content: Prompt, limit: int) -> int:
        """Where `run` and `content`, known to share the run's first block, part. [blocks from the start]"""
        stop = min(run.end, limit)
        known = run.content
        if known is content:
            return stop
        tokens = stop * self.block_size
        first = run.first_segment
        last = bisect_left(known.ends, tokens)
        ours = content.segments
        if (
            len(ours) > last
            and content.ends[last] >= tokens
            and ours[last][0] == known.segments[last][0]
            and ours[first:last] == known.segments[first:last]
        ):
            return stop
        return min(stop, content.common_tokens(known, first) // self.block_size)

    def _cut(self, run: _Run, at: int) -> _Run:
        """Make the blocks of `run` before `at` a run of their own, which is returned; `run` keeps the rest.

        Needed only where the blocks before and after `at` begin to differ in their users: a branch needs no cut.
        """
        content = run.content
        upper = _Run(run.above, run.key, content, run.first_segment, start=run.start, end=at)
        tokens = at * self.block_size
        run.above.below[run.key] = upper
        run.above = upper
        run.key = content.key(tokens, tokens + self.block_size)
        run.first_segment = bisect_right(content.ends, tokens)
        run.start = at
        for branch in [branch for branch in run.below.values() if branch.start <= at]:
            branch.above = upper
            upper.below[branch.key] = run.below.pop(branch.key)
        upper.below[run.key] = run
        for extent in run.copies:
            part = Extent(upper, extent.users)
            upper.copies.append(part)
            if extent.users:
                part.upper = extent.upper
                extent.upper = part
            else:  # its end is evicted first, so the beginning comes right after it
                part.older, part.newer = extent, extent.newer
                extent.newer.older = part
                extent.newer = part
        return upper

    @staticmethod
    def _join(upper: _Run, run: _Run) -> None:
        """Make `upper`, held by nobody else and continued by `run` alone, a part of `run`."""
        run.above = upper.above
        run.key = upper.key
        run.first_segment = upper.first_segment
        run.start = upper.start
        run.above.below[run.key] = run

    def _unqueue(self, extent: Extent) -> None:
        self._unlink(extent)
        self.idle -= extent.run.end - extent.run.start

    @staticmethod
    def _unlink(extent: Extent) -> None:
        extent.older.newer = extent.newer
        extent.newer.older = extent.older
        extent.older = extent.newer = _NOWHERE
