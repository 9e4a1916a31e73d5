"""Ctrl-C at a chosen moment, where CPython can really raise it."""

from __future__ import annotations

import _weakrefset
import inspect
import sys


class Interrupter:
    """Raises KeyboardInterrupt at the nth moment of this thread, the first is 0; once.

    CPython looks for signals where a Python function begins, after it has called a C function, and in a lock's
    `acquire`. It also does where a loop jumps back and a generator goes on, which no tracer can stop at.

    Args:
        nth: When to raise.
        before: Called just before it raises.
        at_waits: Called before each wait for a lock.
        in_waits: Whether waiting for a lock is the last moment there can be, as nobody will release it.
    """

    def __init__(self, nth, *, before=None, at_waits=None, in_waits=False):
        self.nth = nth
        self.before = before or (lambda: None)
        self.at_waits = at_waits or (lambda: None)
        self.in_waits = in_waits
        self.moments = 0
        self.done = False

    def __enter__(self):
        self.others = sys.gettrace(), sys.getprofile()
        sys.settrace(self.on_call)
        sys.setprofile(self.on_c_call)
        return self

    def __exit__(self, *exc):
        trace, profile = self.others
        sys.setprofile(profile)
        sys.settrace(trace)

    def on_call(self, frame, event, arg):
        # At its first line: to raise where the call itself is traced crashes CPython 3.11 now and then.
        code = frame.f_code
        if code is Interrupter.__exit__.__code__ or code.co_flags & inspect.CO_GENERATOR or swallowed(frame):
            return None
        return self.on_line

    def on_line(self, frame, event, arg):
        frame.f_trace_lines = False
        if event == "line":
            self.moment()
        return self.on_line

    def on_c_call(self, frame, event, arg):
        if swallowed(frame):
            return
        if event == "c_call" and arg.__name__ == "acquire" and frame.f_code.co_name == "wait":
            self.at_waits()
            self.moment(last=self.in_waits)
        elif event == "c_return":
            self.moment()

    def moment(self, *, last=False):
        if self.done:
            return
        self.moments += 1
        if last or self.moments > self.nth:
            self.done = True
            self.before()
            raise KeyboardInterrupt


def swallowed(frame):
    """Whether this is run by the collector, which swallows what is raised in it, or in what it calls."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename == _weakrefset.__file__ or code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def every_moment(work, **options):
    """Interrupt `work` at its first moment, then again at its second, and so on, until it gets through."""
    nth = 0
    while True:
        interrupter = Interrupter(nth, **options)
        try:
            with interrupter:
                work()
        except KeyboardInterrupt:
            pass
        except RuntimeError as error:  # what becomes of one inside `Condition.wait`: it releases what it does not hold
            if not isinstance(error.__context__, KeyboardInterrupt):
                raise
        # Here its frames are gone, and with them every generator that was left half-way.
        yield interrupter
        if interrupter.moments <= nth:
            return
        nth += 1
