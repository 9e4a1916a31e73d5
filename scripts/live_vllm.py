"""Installs and runs a real vLLM on a machine without a GPU, for `make live` and for trying things out.

    python scripts/live_vllm.py install                # once, about two minutes and 3.5 GB
    python scripts/live_vllm.py serve --port 8000      # until Ctrl-C

It has an environment of its own, since vLLM pins hundreds of packages, and a model that is made on the spot
(tiny_model.py). Only the standard library is used here.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import guard
from tiny_model import ModelSize, write_model
from vllm_env import REQUIREMENT, LiveServerError, default_venv, ensure_env

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "live"
MODEL_NAME = "tiny"
BLOCK_TOKENS = 32  # vLLM's CPU attention accepts multiples of 32 only
START_LIMIT_S = 300.0  # 25 to 35 s on two idle cores

log = logging.getLogger("live_vllm")


@dataclass
class Server:
    """A vLLM server of ours: a context manager that starts it and leaves no process behind.

    vLLM runs under a guard (guard.py) in a process group of its own. The guard ends the group when the pipe between
    us closes, which it does even if this process is killed.

    Attributes:
        python: The Python that has vLLM.
        port: Loopback port; the same after a restart.
        kv_tokens: Size of the KV cache, a multiple of 32. [tokens]
        max_model_len: Longest context of a request, at most `kv_tokens`. [tokens]
        size: How big the model is.
        flags: More flags of vLLM's server.
    """

    python: Path
    port: int
    kv_tokens: int = 16_384
    max_model_len: int = 8_192
    size: ModelSize = field(default_factory=ModelSize)
    flags: tuple[str, ...] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.kv_tokens % BLOCK_TOKENS or self.kv_tokens < self.max_model_len:
            raise ValueError(
                f"kv_tokens must be a multiple of {BLOCK_TOKENS} and at least max_model_len "
                f"({self.max_model_len}), not {self.kv_tokens}"
            )

    @property
    def url(self) -> str:
        """The server's root, without /v1."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        """Where vLLM's own output goes."""
        return CACHE / f"vllm-{self.port}.log"

    @property
    def running(self) -> bool:
        """Whether its processes live; it may still be loading."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Self:
        self.log_path.unlink(missing_ok=True)
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts vLLM and returns when it serves.

        Raises:
            LiveServerError: If the port is taken, or vLLM ends early or takes longer than `START_LIMIT_S`; with
                the end of its log.
        """
        if self.running:
            return
        if _port_taken(self.port):
            # Else the health of whoever listens there would be taken for ours.
            raise LiveServerError(
                f"port {self.port} is in use: stop what listens there, or choose another port (0 takes a free one)"
            )
        model = CACHE / f"model-{self.size.hidden}x{self.size.layers}"
        write_model(model, self.size)
        command = [sys.executable, guard.__file__, *self._command(model)]
        with self.log_path.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | self._environment(),
                start_new_session=True,
            )
        try:
            self._wait_until_healthy(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server in good order, and by force if that takes too long. Safe to call at any time."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(guard.GRACE_S + 5)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Ends all of the server's processes at once, as a crash would (SIGKILL)."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            cleared_by = time.monotonic() + 5  # the kernel takes a moment to clear a big process away
            while _port_taken(self.port) and time.monotonic() < cleared_by:
                time.sleep(0.02)

    def restart(self) -> None:
        """Starts the server anew on the same port, with an empty cache and counters at zero."""
        self.stop()
        self.start()

    def _command(self, model: Path) -> list[str]:
        # As a module: the `vllm` command fails here, since it looks for a distribution named vllm.
        options = {
            "model": model,
            "served-model-name": MODEL_NAME,
            "load-format": "dummy",
            "dtype": "bfloat16",
            "max-model-len": self.max_model_len,
            "block-size": BLOCK_TOKENS,
            "num-gpu-blocks-override": self.kv_tokens // BLOCK_TOKENS,
            "max-num-seqs": 128,
            "tool-call-parser": "hermes",
            "host": "127.0.0.1",
            "port": self.port,
        }
        switches = ("enforce-eager", "enable-prompt-tokens-details", "enable-auto-tool-choice")
        return [
            str(self.python),
            *("-m", "vllm.entrypoints.openai.api_server"),
            *(text for name, value in options.items() for text in (f"--{name}", str(value))),
            *(f"--{name}" for name in switches),
            *self.flags,
        ]

    @staticmethod
    def _environment() -> dict[str, str]:
        return {
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; --num-gpu-blocks-override decides within it
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "2",  # so that figures from bigger machines compare
            # A spinning thread starves its sister when anything else runs: a decode step of 8 requests took 170 to
            # 600 ms instead of 20 on two busy cores.
            "OMP_WAIT_POLICY": "passive",
            # With an odd number of decoding requests two threads share a sequence and wait for each other in every
            # layer: a step took 32 ms with one or three requests, and 15 ms with two or four.
            "VLLM_CPU_ATTN_SPLIT_KV": "0",
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CACHE_ROOT": str(CACHE / "vllm"),
        }

    def _wait_until_healthy(self, process: subprocess.Popen[bytes]) -> None:
        started = time.monotonic()
        said = 0
        while not self._healthy():
            waited = time.monotonic() - started
            if process.poll() is not None:
                raise LiveServerError(f"vLLM ended before it served; {self._tail()}")
            if waited > START_LIMIT_S:
                raise LiveServerError(f"no vLLM after {START_LIMIT_S:.0f} s; {self._tail()}")
            if waited // 10 > said:
                said = int(waited // 10)
                log.info("vLLM is starting: %d s (a start takes about 30 s)", said * 10)
            time.sleep(0.25)
        log.info("vLLM serves at %s after %.0f s", self.url, time.monotonic() - started)

    def _healthy(self) -> bool:
        no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with contextlib.suppress(OSError), no_proxy.open(f"{self.url}/health", timeout=5):
            return True
        return False

    def _tail(self) -> str:
        last = self.log_path.read_text(errors="replace").splitlines()[-30:]
        return "\n".join([f"the end of {self.log_path}:", *last])


def free_port() -> int:
    """A loopback port that nobody listens on now.

    It lies below the ports that systems give to clients (Linux: from 32768), so that no client takes it while the
    server is down, and none that tries to reach the server connects to itself.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        if not _port_taken(port):
            return port
    raise LiveServerError("no free loopback port was found between 20000 and 32000")


def _port_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _serve(port: int, kv_tokens: int, max_model_len: int) -> None:
    python = ensure_env(default_venv())
    with Server(python, port or free_port(), kv_tokens=kv_tokens, max_model_len=max_model_len) as server:
        print(
            f"vLLM serves the model {MODEL_NAME!r} at {server.url} with {kv_tokens:,} KV tokens; Ctrl-C stops it.\n"
            f"Its log: {server.log_path}\n\nTo compare controllers on it:\n"
            f"  concur compare TRACE.jsonl.gz --url {server.url} --scale 0.05 --max-context {max_model_len} "
            "--controllers none,fixed:8,aimd",
            flush=True,
        )
        try:
            while server.running:
                time.sleep(0.5)
        except KeyboardInterrupt:
            print("stopping", flush=True)
            return
        raise LiveServerError(f"vLLM ended by itself; its log is {server.log_path}")


def main() -> None:
    """The command line; see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "install", help=f"install {REQUIREMENT} into .venv-vllm ($CONCUR_VLLM_VENV names another place)"
    )
    serve = commands.add_parser("serve", help="run the server until Ctrl-C; installs it first if need be")
    serve.add_argument("--port", type=int, default=8000, help="loopback port; 0 takes a free one (%(default)s)")
    serve.add_argument(
        "--kv-tokens", type=int, default=16_384, help="size of the KV cache, a multiple of 32 (%(default)s)"
    )
    serve.add_argument("--max-model-len", type=int, default=8_192, help="longest context of a request (%(default)s)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if options.command == "install":
            log.info("vLLM is ready: %s", ensure_env(default_venv()))
        else:
            _serve(options.port, options.kv_tokens, options.max_model_len)
    except KeyboardInterrupt:
        sys.exit(130)  # what a shell says of a command that Ctrl-C ended: make stops there
    except (LiveServerError, ValueError) as error:
        sys.exit(f"live_vllm: {error}")


if __name__ == "__main__":
    main()
