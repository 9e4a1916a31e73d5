"""What asyncio's `gather`, `as_completed` and `TaskGroup` do, the gate's do too: each case is run on both."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect

import pytest

from concur_agents import ConcurGate, gather
from concur_agents.simulation.virtual_time import run

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Drop:
    """The drop-in import, with the gate given."""

    def __init__(self, gate):
        self.gate = gate

    def gather(self, *aws, **options):
        return gather(*aws, gate=self.gate, **options)


class Case:
    """What a case sees and does: the functions under test, and a log of all that happens, with its time."""

    def __init__(self, functions):
        self.functions = functions
        self.log = []

    def note(self, *what):
        self.log.append((asyncio.get_running_loop().time(), *what))

    async def work(self, name, seconds=1.0, result=None):
        self.note("begins", name)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.note("is cancelled", name)
            raise
        if isinstance(result, BaseException):
            self.note("fails", name)
            raise result
        self.note("ends", name)
        return name if result is None else result


def outcome_of(case, functions):
    """All that can be seen from outside: the log, the result or error, and what asyncio complains of."""
    seen = Case(functions)
    complaints = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
        try:
            seen.note("result", await case(seen))
        except BaseException as error:  # noqa: BLE001  any difference counts
            seen.note("error", described(error))
        await asyncio.sleep(10)
        gc.collect(1)  # what a case leaves is young

    run(main())
    if case in AS_COMPLETED:  # asyncio starts them in the order of a set, which is none
        seen.log.sort(key=lambda entry: (entry[0], str(entry[1:])))
    return seen.log, complaints


def described(error):
    if isinstance(error, BaseExceptionGroup):
        return type(error), [described(inner) for inner in error.exceptions]
    return type(error), str(error)


# ---------------------------------------------------------------- gather


async def results_in_order(case):
    return await case.functions.gather(case.work("a", 3), case.work("b", 1), case.work("c", 2))


async def nothing(case):
    future = case.functions.gather()
    return future.done(), future.result(), await future


async def a_future_comes_back(case):
    future = case.functions.gather(case.work("a"))
    return isinstance(future, asyncio.Future), future.done(), await future, future.done()


async def the_same_twice(case):
    one = case.work("one")
    return await case.functions.gather(one, case.work("two"), one)


async def first_error_and_the_rest_goes_on(case):
    try:
        await case.functions.gather(case.work("a", 1, KeyError("a")), case.work("b", 2), case.work("c", 3, OSError()))
    finally:
        case.note("raised")


async def errors_among_the_results(case):
    results = await case.functions.gather(
        case.work("a", 2, KeyError("a")),
        case.work("b"),
        case.work("c", 1, asyncio.CancelledError()),
        return_exceptions=True,
    )
    return [described(result) if isinstance(result, BaseException) else result for result in results]


async def one_cancels_itself(case):
    return await case.functions.gather(case.work("a", 2), case.work("b", 1, asyncio.CancelledError()))


async def cancelled_from_outside(case):
    future = case.functions.gather(case.work("a"), case.work("b", 5))
    await asyncio.sleep(2)
    case.note(future.cancel(), future.done())
    try:
        await future
    finally:
        case.note(future.cancelled(), future.cancel())


async def cancelled_from_outside_with_return_exceptions(case):
    future = case.functions.gather(case.work("a"), case.work("b", 5), return_exceptions=True)
    await asyncio.sleep(2)
    future.cancel()
    await future


async def cancelled_before_it_begins(case):
    future = case.functions.gather(case.work("a"), case.work("b"))
    future.cancel()
    await future


async def cancelled_by_a_timeout(case):
    async with asyncio.timeout(2):
        await case.functions.gather(case.work("a", 1), case.work("b", 5))


async def one_swallows_the_cancellation(case):
    async def stubborn():
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            return "stayed"

    future = case.functions.gather(stubborn(), case.work("b", 5))
    await asyncio.sleep(1)
    future.cancel()
    await future


async def each_has_a_copy_of_the_context(case):
    async def read_and_write(name):
        before = VARIABLE.get()
        VARIABLE.set(name)
        await asyncio.sleep(1)
        return before, VARIABLE.get()

    VARIABLE.set("outside")
    return [*await case.functions.gather(read_and_write("a"), read_and_write("b")), VARIABLE.get()]


async def an_awaitable_object(case):
    class Awaitable:
        def __await__(self):
            yield from asyncio.sleep(1).__await__()
            return "object"

    return await case.functions.gather(Awaitable(), case.work("a"))


async def unhashable(case):
    class Awaitable:
        __hash__ = None

        def __await__(self):
            yield

    return await case.functions.gather(Awaitable())


GATHER = [
    results_in_order, nothing, a_future_comes_back, the_same_twice, first_error_and_the_rest_goes_on,
    errors_among_the_results, one_cancels_itself, cancelled_from_outside, cancelled_from_outside_with_return_exceptions,
    cancelled_before_it_begins, cancelled_by_a_timeout, one_swallows_the_cancellation, each_has_a_copy_of_the_context,
    an_awaitable_object, unhashable,
]  # fmt: skip


# ---------------------------------------------------------------- as_completed


async def in_the_order_in_which_they_end(case):
    return [await one for one in case.functions.as_completed([case.work("a", 3), case.work("b", 1), case.work("c", 2)])]


async def an_error_comes_when_it_happens(case):
    results = []
    for one in case.functions.as_completed([case.work("a", 3), case.work("b", 1, KeyError("b")), case.work("c", 2)]):
        try:
            results.append(await one)
        except KeyError:
            results.append("error")
    return results


async def time_is_up(case):
    for one in case.functions.as_completed([case.work("a", 1), case.work("b", 5), case.work("c", 6)], timeout=2):
        case.note("got", await one)


async def time_is_up_for_each_that_is_left(case):
    for one in case.functions.as_completed([case.work("a", 1), case.work("b", 5), case.work("c", 6)], timeout=2):
        try:
            case.note("got", await one)
        except TimeoutError:
            case.note("time is up")


async def enough_time(case):
    return [await one for one in case.functions.as_completed([case.work("a", 1)], timeout=2)]


async def left_half_way(case):
    for one in case.functions.as_completed([case.work("a", 1), case.work("b", 5), case.work("c", 6, KeyError("c"))]):
        return await one
    return None


async def nothing_to_complete(case):
    return list(case.functions.as_completed([]))


async def the_same_twice_completes_once(case):
    one = case.work("one")
    return [await next_one for next_one in case.functions.as_completed([one, one])]


async def a_single_coroutine(case):
    one = case.work("one")
    try:
        list(case.functions.as_completed(one))
    except TypeError:
        case.note("refused")
    finally:
        one.close()


AS_COMPLETED = [
    in_the_order_in_which_they_end, an_error_comes_when_it_happens, time_is_up, time_is_up_for_each_that_is_left,
    enough_time, left_half_way, nothing_to_complete, the_same_twice_completes_once, a_single_coroutine,
]  # fmt: skip


# ---------------------------------------------------------------- TaskGroup


async def a_group_waits_for_all(case):
    async with case.functions.TaskGroup() as group:
        tasks = [group.create_task(case.work(name, seconds), name=name) for name, seconds in (("a", 2), ("b", 1))]
    return [task.result() for task in tasks], [task.get_name() for task in tasks]


async def one_error_cancels_the_others(case):
    async with case.functions.TaskGroup() as group:
        group.create_task(case.work("a", 1, KeyError("a")))
        group.create_task(case.work("b", 5))
        try:
            await asyncio.sleep(5)
        finally:
            case.note("the body is left")


async def errors_are_grouped(case):
    async with case.functions.TaskGroup() as group:
        group.create_task(case.work("a", 1, KeyError("a")))
        group.create_task(case.work("b", 1, OSError("b")))


async def the_body_fails(case):
    async with case.functions.TaskGroup() as group:
        group.create_task(case.work("a", 5))
        await asyncio.sleep(1)
        raise KeyError("body")


async def the_group_is_cancelled(case):
    async def group():
        async with case.functions.TaskGroup() as group:
            group.create_task(case.work("a", 5))

    task = asyncio.ensure_future(group())
    await asyncio.sleep(1)
    task.cancel()
    await task


async def one_that_cancels_itself_does_no_harm(case):
    async with case.functions.TaskGroup() as group:
        group.create_task(case.work("a", 1, asyncio.CancelledError()))
        group.create_task(case.work("b", 2))


async def a_task_starts_another(case):
    async with case.functions.TaskGroup() as group:

        async def parent():
            await asyncio.sleep(1)
            group.create_task(case.work("child"))

        group.create_task(parent())


async def a_task_is_cancelled_before_it_begins(case):
    async with case.functions.TaskGroup() as group:
        group.create_task(case.work("a")).cancel()
        group.create_task(case.work("b"))


async def its_context_is_the_one_given(case):
    context = contextvars.copy_context()

    async def write():
        VARIABLE.set("inside")

    async with case.functions.TaskGroup() as group:
        group.create_task(write(), context=context)
    return context[VARIABLE], VARIABLE.get()


TASK_GROUP = [
    a_group_waits_for_all, one_error_cancels_the_others, errors_are_grouped, the_body_fails, the_group_is_cancelled,
    one_that_cancels_itself_does_no_harm, a_task_starts_another, a_task_is_cancelled_before_it_begins,
    its_context_is_the_one_given,
]  # fmt: skip


def gated(controller="none"):
    return ConcurGate(controller=controller)


@pytest.mark.parametrize("case", [*GATHER, *AS_COMPLETED, *TASK_GROUP], ids=lambda case: case.__name__)
def test_all_happens_at_the_same_times_in_the_same_order_with_the_same_end(case):
    gate = gated()

    assert outcome_of(case, gate) == outcome_of(case, asyncio)
    assert gate.admission.live == gate.stats().active == 0


@pytest.mark.parametrize("case", GATHER, ids=lambda case: case.__name__)
def test_the_drop_in_import_does_the_same(case):
    assert outcome_of(case, Drop(gated())) == outcome_of(case, asyncio)


@pytest.mark.parametrize("case", [*GATHER, *AS_COMPLETED, *TASK_GROUP], ids=lambda case: case.__name__)
def test_a_gate_with_one_place_loses_none(case):
    gate = gated("fixed:1")

    outcome_of(case, gate)

    assert gate.admission.live == gate.stats().active == 0


def test_async_for_gives_tasks_as_of_python_3_13():
    async def main():
        case = Case(gated("fixed:2"))
        results = []
        async for task in case.functions.as_completed(
            [case.work("a", 3), case.work("b", 1, KeyError()), case.work("c")]
        ):
            assert isinstance(task, asyncio.Task)
            assert task.done()
            results.append(type(task.exception()) if task.exception() else await task)
        return results

    assert run(main()) == [KeyError, "c", "a"]


def test_async_for_ends_when_the_time_is_up():
    async def main():
        case = Case(gated("fixed:1"))
        results = []
        try:
            async for task in case.functions.as_completed([case.work(name, 2) for name in "abc"], timeout=5):
                results.append(await task)  # noqa: PERF401  what came before the error
        except TimeoutError:
            results.append("time is up")
        await asyncio.sleep(5)
        return results

    assert run(main()) == ["a", "b", "time is up"]


@pytest.mark.parametrize("call", ["gather", "as_completed"])
def test_outside_an_event_loop_the_coroutines_are_closed(call):
    gate = gated()
    coroutines = [asyncio.sleep(1), asyncio.sleep(2)]

    with pytest.raises(RuntimeError, match="no running event loop"):
        getattr(gate, call)(*(coroutines if call == "gather" else [coroutines]))

    assert [inspect.getcoroutinestate(coroutine) for coroutine in coroutines] == [inspect.CORO_CLOSED] * 2


def test_a_group_refuses_what_cannot_be_held_back_and_closes_what_comes_too_late():
    async def main():
        gate = gated()
        group = gate.TaskGroup()
        with pytest.raises(RuntimeError, match="not been entered"):
            group.create_task(asyncio.sleep(1))
        async with group:
            task = asyncio.ensure_future(asyncio.sleep(1))
            with pytest.raises(TypeError, match="running already"):
                group.create_task(task)
            with pytest.raises(TypeError, match="the function sleep: call it"):
                group.create_task(asyncio.sleep)
            with pytest.raises(TypeError, match="takes coroutines, not int"):
                group.create_task(3)
            await task
        with pytest.raises(RuntimeError, match="finished"):
            group.create_task(asyncio.sleep(1))

    run(main())


def test_tasks_of_a_group_are_agents_of_their_name_and_kind():
    async def main():
        gate = gated("fixed:1")
        seen = []

        async def look():
            agent = gate.current()
            seen.append((agent.name, agent.kind, gate.stats().active))
            await asyncio.sleep(1)

        async with gate.agent("orchestrator"), gate.TaskGroup() as group:
            group.create_task(look(), name="inherits", kind="coder")
            group.create_task(look(), name="new", nested="new")
        return seen

    assert sorted(run(main())) == [("inherits", "coder", 1), ("new", "default", 1)]


def test_agents_wait_for_their_place_in_each_of_them():
    async def main():
        case = Case(gated("fixed:1"))
        async with case.functions.TaskGroup() as group:
            for name in "ab":
                group.create_task(case.work(name))
        for one in case.functions.as_completed([case.work(name) for name in "cd"]):
            await one
        await gather(case.work("e"), case.work("f"), gate=case.functions)
        return [(time, name) for time, what, name in case.log if what == "begins"]

    assert run(main()) == [(float(time), name) for time, name in enumerate("abcdef")]
