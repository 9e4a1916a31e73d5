"""The cache of extents is vLLM's pool of single blocks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.naive_vllm import Block, Hashes, Pool, tokens_of

from concur_agents.simulation import Prompt
from concur_agents.simulation.blocks import Holding, PrefixCache

SIZE = 4


def idle_hashes(cache: PrefixCache, hashes: Hashes) -> list[int]:
    """Content of the free blocks, the next to be evicted first."""
    found = []
    extent = cache._queue.newer
    while extent is not cache._queue:
        run = extent.run
        content = hashes.of(tokens_of(run.content))
        found += [content[at] for at in range(run.end - 1, run.start - 1, -1)]
        extent = extent.newer
    return found


def extents_in(cache: PrefixCache) -> int:
    runs, count = [cache._root], 0
    while runs:
        run = runs.pop()
        count += len(run.copies)
        runs += run.below.values()
    return count


class Both:
    """The cache and the naive pool, given the same requests, and compared after each step."""

    def __init__(self, blocks: int):
        self.cache = PrefixCache(blocks, SIZE)
        self.pool = Pool(blocks)
        self.hashes = Hashes(SIZE)
        self.held: list[tuple[Prompt, Holding, list[Block], int]] = []

    def start(self, content: Prompt, tokens: int) -> None:
        """A request whose first `tokens` tokens are to be computed at once."""
        hashes = self.hashes.of(tokens_of(content))
        limit = (tokens - 1) // SIZE
        found = self.pool.look_up(hashes, limit)
        match = self.cache.match(content, limit)
        assert match.blocks == len(found)
        assert match.free == sum(not block.users for block in found)
        new = -(-tokens // SIZE) - len(found)
        if new + match.free > self.cache.free:
            return
        holding = self.cache.hold(match)
        self.pool.touch(found)
        self.check()
        self.cache.take(new)
        blocks = found + self.pool.take(new)
        self.held.append((content, holding, blocks, len(found)))
        self._name(len(self.held) - 1, tokens)

    def grow(self, which: int, tokens: int) -> None:
        """A request computes up to `tokens` more."""
        content, _, blocks, _ = self.held[which]
        filled = min(len(blocks) * SIZE + tokens, content.tokens)
        new = -(-filled // SIZE) - len(blocks)
        if new <= 0 or new > self.cache.free:
            return
        self.cache.take(new)
        blocks += self.pool.take(new)
        self._name(which, filled)

    def end(self, which: int) -> None:
        _, holding, blocks, named = self.held.pop(which)
        self.cache.release(holding, nameless=len(blocks) - named)
        self.pool.free(blocks)
        self.check()

    def _name(self, which: int, tokens: int) -> None:
        content, holding, blocks, named = self.held[which]
        hashes = self.hashes.of(tokens_of(content))
        full = tokens // SIZE
        for at in range(named, full):
            self.pool.cache(blocks[at], hashes[at])
        self.cache.name(holding, content, full)
        self.held[which] = (content, holding, blocks, full)
        self.check()

    def check(self) -> None:
        assert self.cache.free == len(self.pool.queue)
        assert self.cache.evicted == self.pool.evicted
        assert idle_hashes(self.cache, self.hashes) == self.pool.idle_hashes()
        assert self.cache.idle == len(self.pool.idle_hashes())


# Few ids and lengths near the block size: shared beginnings, cut segments and equal contents are the rule.
contents = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 11)), min_size=1, max_size=5).map(Prompt)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("start"), contents, st.integers(1, 60)),
        st.tuples(st.just("grow"), st.integers(0, 9), st.integers(1, 12)),
        st.tuples(st.just("end"), st.integers(0, 9), st.none()),
    ),
    max_size=60,
)


@given(blocks=st.integers(4, 40), steps=operations)
@settings(max_examples=600, deadline=None)
def test_extents_hit_evict_and_free_exactly_like_single_blocks(blocks, steps):
    both = Both(blocks)
    for kind, one, other in steps:
        if kind == "start":
            both.start(one, min(other, one.tokens))
        elif both.held:
            which = one % len(both.held)
            both.grow(which, other) if kind == "grow" else both.end(which)
    while both.held:
        both.end(0)
    assert both.cache.free == blocks
    both.cache.take(blocks)
    assert extents_in(both.cache) == 0


def run_turn(cache: PrefixCache, content: Prompt, prompt_tokens: int) -> int:
    """One request from look-up to end; returns the blocks it found."""
    match = cache.match(content, (prompt_tokens - 1) // cache.block_size)
    holding = cache.hold(match)
    full = (content.tokens - 1) // cache.block_size
    cache.take(full + 1 - match.blocks)
    cache.name(holding, content, full)
    cache.release(holding, nameless=1)
    return match.blocks


def test_an_agent_of_forty_turns_with_cut_outputs_stays_a_few_extents():
    cache = PrefixCache(20_000, 16)
    prompt = Prompt([("system", 13_214), ("task", 500)])
    for turn in range(40):
        run_turn(cache, prompt.then((("out", turn), 150)), prompt.tokens)
        prompt = prompt.then((("out", turn), 60), (("tool", turn), 700))
    context = cache.match(prompt, prompt.tokens // 16)
    assert context.blocks == (prompt.tokens - 700) // 16
    assert len(context.runs) == 1
    assert extents_in(cache) == 1 + 39  # and one leftover of each output that was cut


def test_a_prompt_cached_whole_is_looked_up_without_its_last_token():
    cache = PrefixCache(10, SIZE)
    content = Prompt([("a", 8)])
    holding = cache.hold(cache.match(content, 2))
    cache.take(2)
    cache.name(holding, content, 2)
    assert cache.match(content, (8 - 1) // SIZE).blocks == 1
    assert cache.match(content, 2).blocks == 2


def test_more_blocks_than_are_free_cannot_be_taken():
    cache = PrefixCache(10, SIZE)
    with pytest.raises(ValueError, match="11 blocks asked for, 10 free"):
        cache.take(11)


@pytest.mark.parametrize(("blocks", "block_size"), [(0, 16), (-3, 16), (10, 0)])
def test_a_cache_without_room_is_refused(blocks, block_size):
    with pytest.raises(ValueError, match="must be 1 or more"):
        PrefixCache(blocks, block_size)
