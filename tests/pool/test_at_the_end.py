"""A program that ends in the middle of a batch ends in silence: nothing is left for asyncio to complain of."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, os, signal, sys
from concur_agents import ConcurGate

gate = ConcurGate(controller="fixed:2")

async def solve(number):
    try:
        await asyncio.sleep(0 if number < 2 else 60)
    except asyncio.CancelledError:
        await asyncio.sleep(0)
        raise
    if number == 1:
        raise KeyError("not read")

async def leave_and_return():
    async for _ in gate.map(solve, range(9)):
        break

async def fail():
    async for _ in gate.map(solve, range(9)):
        raise ZeroDivisionError

async def interrupt():
    asyncio.get_running_loop().call_later(0, os.kill, os.getpid(), signal.SIGINT)
    async for _ in gate.map(solve, range(2, 9)):
        pass

async def keep_the_batch():
    global batch
    batch = gate.map(solve, range(9))
    await anext(batch)

async def leave_a_group():
    async with gate.TaskGroup() as group:
        for number in (2, 3, 4, 5):
            group.create_task(solve(number))
        asyncio.get_running_loop().call_later(0, os.kill, os.getpid(), signal.SIGINT)

async def never_begin():
    gate.map(solve, range(9), progress=True, checkpoint="/nowhere")

try:
    asyncio.run(globals()[sys.argv[1]]())
except (ZeroDivisionError, KeyboardInterrupt):
    pass
print("live", gate.admission.live)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to oneself")
@pytest.mark.parametrize(
    "way",
    ["leave_and_return", "fail", "interrupt", "keep_the_batch", "leave_a_group", "never_begin"],
)
def test_a_program_that_ends_half_way_ends_in_silence_and_gives_all_places_back(way):
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT, way],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "live 0\n", "")
