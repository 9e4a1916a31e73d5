"""Runs a command that must not outlive who started it.

    python guard.py COMMAND...      with a pipe as standard input, in a process group of its own

When the command ends, or the pipe closes since its other end was closed or died in whatever way, the whole process
group is ended: in good order within `GRACE_S`, then by force.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

GRACE_S = 12.0  # vLLM needs about 5 s to end its processes


def main() -> None:
    """Runs the command that the arguments are; does not return."""
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)

    def end_when_abandoned() -> None:
        sys.stdin.buffer.read()
        command.terminate()
        time.sleep(GRACE_S)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=end_when_abandoned, daemon=True).start()
    print(f"the command ended with status {command.wait()}", flush=True)
    time.sleep(1)  # lets Python's resource tracker take shared memory away
    os.killpg(0, signal.SIGKILL)  # this guard too, and what a crashed command has left running


if __name__ == "__main__":
    main()
