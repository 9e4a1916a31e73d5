"""Runs the commands of the pages as a reader's shell does."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from docs.pages import ROOT
from docs.treated import BY_ITSELF, FILES, HERE, SMALLER

LIMIT_S = 60
STEPS = [
    {"context_tokens": 640, "new_input_tokens": 640, "output_tokens": 40, "tool_seconds": 0.5},
    {"context_tokens": 800, "new_input_tokens": 120, "output_tokens": 20},
]
TRACE = "".join(json.dumps({"agent_id": f"a{number}", "steps": STEPS}) + "\n" for number in range(3))


@dataclass(frozen=True)
class Ran:
    """What became of a command."""

    code: int
    out: str
    err: str


def reader_environment():
    """Without settings of whoever runs the tests; `concur` and `python` are those of this environment."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CONCUR_", "OTEL_", "OPENAI_")) and name not in {"FORCE_COLOR", "PYTHONPATH"}
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}


@contextmanager
def started(script, folder, **pipes):
    """A process group of its own: what is started with `&` ignores Ctrl-C, and bash may have children."""
    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=reader_environment(),
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        **pipes,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def within_its_time(process):
    """Ends a process that hangs, so that whoever reads from it goes on."""
    watchdog = threading.Timer(LIMIT_S, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


@contextmanager
def serving(*options):
    """`concur serve` on a free port: where it is, what it said, and its process."""
    script = f"exec concur serve --port 0 {' '.join(options)}"
    with started(script, ROOT, stderr=subprocess.PIPE) as process:
        with within_its_time(process):
            said = process.stderr.readline() + process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert found, said
        yield found.group(), said, process


def may_run(command):
    """Whether a command may be run: no page makes the tests start what nobody has looked at."""
    return command in SMALLER or all(part.startswith(BY_ITSELF) for part in re.split(r" *[;&|]+ *", command))


def as_run(command, url):
    """The script that is run for a command of a page."""
    more, _ = SMALLER.get(command, ("", ""))
    return re.sub(HERE, url, f"{command} {more}".strip())


def run(command, folder, url):
    """Runs a command to its end; one that never ends, until it has said something, and then Ctrl-C ends it."""
    assert may_run(command), f"list it in treated.py: {command}"
    if command.startswith("concur serve"):
        return served(command)
    script = as_run(command, url)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(script, folder, **pipes) as process, within_its_time(process):
        if command.startswith("concur watch") and "--once" not in command:
            first = "".join(process.stdout.readline() for _ in re.findall(HERE, command))
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate()
            assert process.returncode == 130, err
            return Ran(0, first + out, err)
        out, err = process.communicate()
        return Ran(process.returncode, out, err)


def served(command):
    """Serves until Ctrl-C, once a client has had its answer."""
    with serving(command.removeprefix("concur serve")) as (url, said, process):
        with urllib.request.urlopen(f"{url}/v1/models", timeout=LIMIT_S) as answer:
            assert answer.status == 200
        os.killpg(process.pid, signal.SIGINT)
        _, rest = process.communicate(timeout=LIMIT_S)
        assert rest == "concur: stopped\n"
        return Ran(process.returncode, "", said)


def give_files(page, folder):
    """Puts there what the page takes for given."""
    for name in FILES.get(page, {}):
        if name.endswith(".gz"):
            (folder / name).write_bytes(gzip.compress(TRACE.encode()))
        else:
            shutil.copy(ROOT / "examples" / name, folder)
