"""`gate.map(..., checkpoint=path)`: what has finished is not run again, and nothing else is believed."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concur_agents import CheckpointError, ConcurGate
from concur_agents.pool.checkpoint import Checkpoint, canonical
from concur_agents.simulation.virtual_time import run

HEADER = '{"format": "concur-agents checkpoint", "version": 1}\n'


class Solver:
    """Doubles what it is given; fails or goes on for ever where it is told."""

    def __init__(self, *, fails=(), hangs=(), result=lambda item: item * 2):
        self.fails = fails
        self.hangs = hangs
        self.result = result
        self.began = []

    async def __call__(self, item):
        self.began.append(item)
        await asyncio.sleep(1e4 if item in self.hangs else 1)
        if item in self.fails:
            raise OSError(f"no answer to {item}")
        return self.result(item)


def batch(path, solve, items, *, places=2, **options):
    """Run a batch to its end."""

    async def main():
        gate = ConcurGate(controller=f"fixed:{places}")
        results = await gate.map(solve, items, checkpoint=path, **options)
        assert gate.admission.live == 0
        return results

    return run(main())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "batch.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()[1:]]


def test_what_has_finished_is_not_run_again(path):
    first, second = Solver(), Solver()

    assert batch(path, first, [1, 2, 3]) == [2, 4, 6]
    assert batch(path, second, [3, 4, 1]) == [6, 8, 2]

    assert second.began == [4]
    assert batch(path, second, [1, 2, 3, 4]) == [2, 4, 6, 8]
    assert second.began == [4]


def test_each_item_is_in_the_file_as_soon_as_it_ends(path):
    async def main():
        gate = ConcurGate(controller="fixed:2")
        running = asyncio.ensure_future(gate.map(Solver(hangs=["a"]), ["a", "b", "c"], checkpoint=path))
        await asyncio.sleep(2.5)
        stored = lines(path)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return stored

    assert run(main()) == [{"key": "b", "result": "bb"}, {"key": "c", "result": "cc"}]


def test_an_item_that_failed_runs_again_and_the_finished_ones_do_not(path):
    solve = Solver()

    with pytest.raises(OSError, match="no answer to 2"):
        batch(path, Solver(fails=[2]), [1, 2], places=1)
    results = batch(path, Solver(fails=[2]), [1, 2, 3], return_exceptions=True)

    assert [results[0], type(results[1]), results[2]] == [2, OSError, 6]
    assert batch(path, solve, [1, 2, 3]) == [2, 4, 6]
    assert solve.began == [2]


def test_a_changed_item_runs_again(path):
    solve = Solver(result=lambda item: item["question"])

    batch(path, solve, [{"id": 1, "question": "why"}, {"id": 2, "question": "how"}])
    results = batch(path, solve, [{"question": "why", "id": 1}, {"id": 2, "question": "who"}])

    assert results == ["why", "who"]
    assert [item["question"] for item in solve.began] == ["why", "how", "who"]


def test_a_key_tells_items_apart_that_are_not_json(path):
    class Task:
        def __init__(self, number):
            self.number = number

    solve = Solver(result=lambda task: task.number)

    assert batch(path, solve, [Task(1), Task(2)], key=lambda task: ["task", task.number]) == [1, 2]
    assert batch(path, solve, [Task(2)], key=lambda task: ("task", task.number)) == [2]
    assert len(solve.began) == 2
    with pytest.raises(TypeError, match=r"item 0 cannot be told.*a Task is not JSON.*key=lambda task: task\.id"):
        batch(path, solve, [Task(1)])


def test_equal_items_have_a_result_each(path):
    """Rollouts: the same task many times."""
    draw = iter(range(100))
    sample = Solver(hangs=[], result=lambda _: next(draw))

    first = batch(path, sample, ["task"] * 3)
    more = batch(path, sample, ["task"] * 5)

    assert sorted(first) == [0, 1, 2]
    assert sorted(more) == [0, 1, 2, 3, 4]
    assert len(sample.began) == 5


def test_the_first_run_gives_the_same_as_the_next_one(path):
    result = {"tuple": (1, 2), 3: None, "text": "ü\ud800", "number": 0.1}
    solve = Solver(result=lambda _: result)

    first, second = batch(path, solve, [1]), batch(path, solve, [1])

    assert first == second == [{"tuple": [1, 2], "3": None, "text": "ü\ud800", "number": 0.1}]


@pytest.mark.parametrize(
    "result", [object(), {"deep": [b"bytes"]}, {(1, 2): 3}], ids=["object", "bytes", "a tuple key"]
)
def test_a_result_that_json_cannot_hold_is_an_error_of_its_item_that_names_it(path, result):
    solve = Solver(result=lambda item: result if item == 1 else item)

    with pytest.raises(TypeError, match=r"the result of item 1, a (object|dict), cannot be stored.*Return what JSON"):
        batch(path, solve, [0, 1, 2], places=1, retries=3)

    assert solve.began.count(1) == 1, "trying again would not help"
    assert lines(path) == [{"key": 0, "result": 0}]


# ---------------------------------------------------------------- files as a crash, or somebody else, leaves them


def test_cut_off_at_any_byte_the_whole_lines_are_kept_and_the_rest_runs_again(path, caplog):
    batch(path, Solver(), ["a", "b", "c"], places=1)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        kept = max(0, whole[:length].count(b"\n") - 1)
        solve = Solver()

        with caplog.at_level(logging.WARNING, "concur_agents"):
            caplog.clear()
            assert batch(path, solve, ["a", "b", "c"], places=1) == ["aa", "bb", "cc"]

        assert solve.began == ["a", "b", "c"][kept:]
        assert path.read_bytes() == whole
        assert ("torn by a crash" in caplog.text) == (length > 0 and not whole[:length].endswith(b"\n"))


def test_a_last_line_of_garbage_is_cut_off(path):
    path.write_bytes(HEADER.encode() + b'{"key": 1, "result": 2}\n' + b"\0\0\0\n")
    solve = Solver()

    assert batch(path, solve, [1, 2]) == [2, 4]

    assert solve.began == [2]
    assert lines(path) == [{"key": 1, "result": 2}, {"key": 2, "result": 4}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("my thesis\n", "no checkpoint of concur-agents.*another path"),
        ("my thesis", "no checkpoint"),
        ("\n", "no checkpoint"),
        ('{"key": 1, "result": 2}\n', "no checkpoint"),
        (HEADER.replace("1", "2"), "has version 2, and this is version 1"),
        (HEADER + "garbage\n" + '{"key": 1, "result": 2}\n', r"line 2 .* is damaged.*mend or remove that line"),
        (HEADER + '{"key": 1}\n' + '{"key": 1, "result": 2}\n', r"line 2 .* is damaged"),
        (HEADER + '[1]\n{"key": 1, "result": 2}', r"line 2 .* is damaged"),
        ("\udcff\udcfe binary\n", "no checkpoint"),
    ],
)
def test_another_file_is_refused_and_left_as_it_is(path, content, message):
    before = content.encode("utf-8", "surrogateescape")
    path.write_bytes(before)
    solve = Solver()

    with pytest.raises(CheckpointError, match=message):
        batch(path, solve, [1])

    assert path.read_bytes() == before
    assert solve.began == []


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        batch(tmp_path / "nowhere" / "batch.jsonl", Solver(), [1])


@pytest.mark.skipif(sys.platform == "win32", reason="no file locks")
def test_two_batches_cannot_write_one_file(path):
    async def main():
        gate = ConcurGate(controller="none")
        first = asyncio.ensure_future(gate.map(Solver(), [1, 2], checkpoint=path))
        await asyncio.sleep(0.5)
        with pytest.raises(CheckpointError, match="in use by another batch"):
            await gate.map(Solver(), [1], checkpoint=path)
        assert await first == [2, 4]
        assert await gate.map(Solver(), [1], checkpoint=path) == [2]

    run(main())


def test_a_disk_that_is_full_fails_its_item_and_leaves_whole_lines(path, monkeypatch):
    room = 150

    class SmallDisk:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, line):
            nonlocal room
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = self.file.write(line[:room])
            room -= written
            return written

    def small(self, path, original=Checkpoint.__init__):
        original(self, path)
        self._file = SmallDisk(self._file)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "__init__", small)
        with pytest.raises(OSError, match="No space left"):
            batch(path, Solver(result=str), list(range(100)), places=1)
    assert path.read_bytes().endswith(b"\n")
    stored = lines(path)
    assert len(stored) == 5

    solve = Solver(result=str)
    assert batch(path, solve, list(range(9))) == [str(number) for number in range(9)]
    assert solve.began == list(range(5, 9))


CRASHING = """
import asyncio, sys
from concur_agents import ConcurGate

async def solve(item):
    print("begins", item, flush=True)
    await asyncio.sleep(0.002 * (item % 3))
    return "x" * 5000

async def main():
    async for _ in ConcurGate(controller="fixed:3").map(solve, range(100_000), checkpoint=sys.argv[1]):
        pass

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("begun", [1, 5, 60])
def test_killed_a_batch_loses_only_what_was_in_flight(path, begun):
    with subprocess.Popen([sys.executable, "-c", CRASHING, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        began = [process.stdout.readline() for _ in range(begun)]
        process.send_signal(signal.SIGKILL)
        began += process.stdout.readlines()
    began = [int(line.split()[1]) for line in began if line.endswith("\n")]
    solve = Solver(result=lambda _: "y")

    results = batch(path, solve, range(len(began) + 10))

    lost = [item for item in solve.began if item < len(began)]
    assert len(lost) <= 3 + 1, "three were active, and one may have begun after the last line that was read"
    assert results == ["y" if item in solve.began else "x" * 5000 for item in range(len(began) + 10)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_a_key_is_the_same_after_it_was_stored(value):
    key = canonical(value, "item 0")

    assert canonical(json.loads(key), "item 0") == key
    assert canonical(json.loads(json.dumps(value)), "item 0") == key


def test_the_file_is_closed_when_the_batch_is_left_half_way(path):
    async def main():
        async for _ in ConcurGate(controller="fixed:2").map(Solver(), [1, 2, 3], checkpoint=path):
            break
        await asyncio.sleep(1)  # as for any asynchronous generator, its end is a task of its own
        Checkpoint(path).close()  # it is free

    run(main())
