"""What threads post to a loop: each once, in order, whatever meets on the way."""

from __future__ import annotations

import contextlib
import contextvars
import sys

import pytest
from interrupting import Interrupter, every_moment

from concur_agents.sync.mailbox import LOOK_AGAIN_S, post, read

SEEN = contextvars.ContextVar("seen", default="nothing")


class Loop:
    """A loop that runs when it is told to. Attributes: rings: how often a thread woke it; told: what failed."""

    def __init__(self):
        self.callbacks = []
        self.rings = 0
        self.told = []
        self.closed = False
        self.now = 0.0
        self.timers = []

    def time(self):
        return self.now

    def call_later(self, delay, callback, *args):
        self.timers.append((self.now + delay, callback, args))

    def is_closed(self):
        return self.closed

    def call_soon_threadsafe(self, callback, *args):
        if self.closed:
            raise RuntimeError("Event loop is closed")
        self.rings += 1
        self.callbacks.append((callback, args))

    def call_soon(self, callback, *args):
        self.callbacks.append((callback, args))

    def call_exception_handler(self, context):
        self.told.append(context["exception"])

    def run(self, after=0.0):
        self.now += after
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer not in due]
        callbacks, self.callbacks = self.callbacks + [timer[1:] for timer in due], []
        for callback, args in callbacks:
            callback(*args)


@pytest.fixture
def loop():
    return Loop()


def test_all_is_done_in_order_and_the_loop_is_woken_once_until_it_looks(loop):
    done = []
    for number in range(3):
        assert post(loop, lambda number=number: done.append(number))
    assert (loop.rings, done) == (1, [])
    loop.run()
    assert done == [0, 1, 2]
    post(loop, lambda: done.append(3))
    assert loop.rings == 2
    loop.run()
    assert done == [0, 1, 2, 3]


def test_what_is_posted_while_the_loop_looks_is_done_too(loop):
    done = []
    post(loop, lambda: post(loop, lambda: done.append("later")))
    loop.run()
    loop.run()
    assert done == ["later"]


def test_it_is_done_in_the_context_of_the_post_or_in_the_one_given(loop):
    seen = []
    token = SEEN.set("the poster's")
    post(loop, lambda: seen.append(SEEN.get()))
    SEEN.reset(token)
    given = contextvars.copy_context()
    given.run(SEEN.set, "given")
    post(loop, lambda: seen.append(SEEN.get()), given)
    loop.run()
    assert seen == ["the poster's", "given"]


def test_one_that_fails_is_reported_and_keeps_no_other_from_being_done(loop):
    done = []
    post(loop, lambda: 1 / 0)
    post(loop, lambda: done.append("after"))
    loop.run()
    assert done == ["after"]
    assert [type(error) for error in loop.told] == [ZeroDivisionError]


def test_ctrl_c_in_the_loop_ends_it_and_what_is_left_is_done_if_it_goes_on(loop):
    def interrupted():
        raise KeyboardInterrupt

    done = []
    post(loop, interrupted)
    post(loop, lambda: done.append("after"))
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    loop.run()
    assert done == ["after"]


def test_a_closed_loop_is_told_and_nothing_is_kept_for_it(loop):
    done = []
    post(loop, lambda: done.append("too late"))
    loop.closed = True
    assert not post(loop, lambda: done.append("closed"))
    loop.run()
    assert done == []


def test_wherever_ctrl_c_meets_the_loop_as_it_looks_what_is_posted_next_is_done():
    nth, among_them = 1, True  # at the first, the loop has not begun to look
    while among_them:
        loop, done = Loop(), []
        post(loop, lambda: None)
        loop.run()
        post(loop, lambda: None)
        [(look, args)] = loop.callbacks
        loop.callbacks = []
        interrupter = Interrupter(nth)
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            look(*args)
        post(loop, lambda done=done: done.append("next"), urgent=False)
        for _ in range(3):
            loop.run(after=LOOK_AGAIN_S)
        assert done == ["next"]
        among_them = interrupter.done
        nth += 1
    assert nth > 10


@pytest.mark.parametrize("urgent", [True, False])
def test_wherever_ctrl_c_meets_a_post_the_next_one_is_done(loop, urgent):
    done, moments = [], 0
    for interrupter in every_moment(lambda: post(loop, lambda: done.append("interrupted"), urgent=urgent)):
        moments = max(moments, interrupter.moments)
        post(loop, lambda: done.append("next"), urgent=urgent)
        loop.run(after=LOOK_AGAIN_S)
        assert done[-1] == "next"
        assert done.count("next") == 1
        done.clear()
    assert moments > 5


def looking(loop):
    """The loop was woken twice in a short while, and comes to look by itself."""
    for _ in range(2):
        post(loop, lambda: None)
        loop.run()
    loop.rings = 0


def test_a_loop_that_is_woken_often_comes_to_look_by_itself_for_as_long_as_it_finds_anything(loop):
    done = []
    looking(loop)
    for number in range(3):
        post(loop, lambda number=number: done.append(number), urgent=False)
        assert done == list(range(number))
        loop.run(after=LOOK_AGAIN_S)
    assert (done, loop.rings) == ([0, 1, 2], 0)
    loop.run(after=LOOK_AGAIN_S)
    assert loop.timers == []
    post(loop, lambda: done.append(3), urgent=False)
    assert loop.rings == 1


def test_it_is_woken_for_what_is_urgent_all_the_same_and_does_what_came_before_first(loop):
    done = []
    looking(loop)
    post(loop, lambda: done.append("before"), urgent=False)
    post(loop, lambda: done.append("urgent"))
    assert loop.rings == 1
    loop.run()
    assert done == ["before", "urgent"]
    assert len(loop.timers) == 1


def test_a_loop_that_is_woken_now_and_then_has_no_timer_and_is_woken_for_each(loop):
    done = []
    for number in range(3):
        post(loop, lambda number=number: done.append(number), urgent=False)
        loop.run(after=2 * LOOK_AGAIN_S)
    assert (done, loop.rings, loop.timers) == ([0, 1, 2], 3, [])


def test_a_closed_loop_is_told_though_it_was_to_look(loop):
    looking(loop)
    loop.closed = True
    assert not post(loop, lambda: None, urgent=False)


def test_read_does_what_was_posted_at_once_each_after_the_one_before_it(loop):
    done = []

    def first():
        read(loop)
        done.append("first")

    read(loop)
    post(loop, first)
    post(loop, lambda: done.append("second"))
    read(loop)
    assert done == ["first", "second"]
    loop.run()
    assert done == ["first", "second"]


class Meanwhile:
    """Lets the loop come to look before the nth line of this thread, the first is 0; done: whether there was one."""

    def __init__(self, loop, nth):
        self.loop = loop
        self.left = nth
        self.done = False

    def __enter__(self):
        self.other = sys.gettrace()
        sys.settrace(self.trace)
        return self

    def __exit__(self, *exc):
        sys.settrace(self.other)

    def trace(self, frame, event, arg):
        if event == "line" and not self.done:
            self.done = self.left == 0
            self.left -= 1
            if self.done:
                self.loop.run(after=LOOK_AGAIN_S)
        return self.trace


@pytest.mark.parametrize("urgent", [True, False])
def test_wherever_the_loop_comes_to_look_in_a_post_it_is_done(urgent):
    nth, among_them = 0, True
    while among_them:
        loop, done = Loop(), []
        looking(loop)
        with Meanwhile(loop, nth) as meanwhile:
            post(loop, lambda done=done: done.append("posted"), urgent=urgent)
        among_them = meanwhile.done
        loop.run(after=LOOK_AGAIN_S)
        assert done == ["posted"]
        nth += 1
    assert nth > 10
