"""What threads post to a loop: each once, in order, whatever meets on the way."""

from __future__ import annotations

import contextvars

import pytest
from interrupting import every_moment

from concur_agents.sync.mailbox import post

SEEN = contextvars.ContextVar("seen", default="nothing")


class Loop:
    """A loop that runs when it is told to. Attributes: rings: how often a thread woke it; told: what failed."""

    def __init__(self):
        self.callbacks = []
        self.rings = 0
        self.told = []
        self.closed = False

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

    def run(self):
        callbacks, self.callbacks = self.callbacks, []
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


def test_wherever_ctrl_c_meets_a_post_the_next_one_is_done(loop):
    done, moments = [], 0
    for interrupter in every_moment(lambda: post(loop, lambda: done.append("interrupted"))):
        moments = max(moments, interrupter.moments)
        post(loop, lambda: done.append("next"))
        loop.run()
        assert done[-1] == "next"
        assert done.count("next") == 1
        done.clear()
    assert moments > 5
