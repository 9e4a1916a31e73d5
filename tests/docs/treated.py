"""What the tests do with each block of the pages: the one place that says so.

Commands of `console` and `bash` blocks are run by bash, in a folder that their page has for itself; those of `concur`
as they stand, with one difference that all have: the server is not on port 8000 but where the tests have started
theirs. What is run otherwise, what starts another program, and what is not run at all, is listed here with the reason.
A `text` block is output of a command, and compared with it, or it is listed as what no command prints. Whatever is not
covered fails, and so does what is listed and on no page any more.
"""

from __future__ import annotations

from dataclasses import dataclass

HERE = r"http://(?:localhost|127\.0\.0\.1|gpu-\d):8000"
"""The addresses that the reader's server has on the pages."""

BY_ITSELF = ("concur ", "echo ")
"""How commands begin that may be run without being listed: they change nothing but their folder."""

LONG = "as it stands it takes minutes; the rest of it is the same"
SMALLER = {
    "concur demo": ("--agents 4", "72 agents take half a minute; their figures are held by a run without LangGraph"),
    "concur compare workload:swe workload:search --model qwen3-32b --hardware h100:8 "
    "--controllers none,fixed:32,aimd,pi": ("--agents 4", LONG),
    "concur compare workload:swe --model qwen3-32b --hardware h100:8": ("--agents 4", LONG),
    "concur compare workload:swe --url http://localhost:8000 --scale 0.1": (
        "--agents 1 --scale-tools 0.001 --controllers none,working-set",
        LONG,
    ),
    "concur compare workload:swe --fit mine.json --scale 0.1": ("--agents 4", LONG),
    "concur compare workload:swe --agents 64 --model qwen3-32b --hardware h100:2 "
    "--controllers none,fixed:16,aimd,working-set --report report.html": ("--agents 4", LONG),
    "concur compare agentcgroup_glm.jsonl.gz --url http://127.0.0.1:8000 --scale 0.02 --scale-tools 0.05 "
    "--agents 40 --seed 1 --max-context 1200 --controllers none,fixed:2,fixed:4,fixed:6,aimd": (
        "--agents 4 --controllers none,aimd",
        LONG,
    ),
    "concur compare agentcgroup_glm.jsonl.gz --url http://127.0.0.1:8000 --scale 0.02 --scale-tools 0.05 "
    "--agents 32 --seed 1 --max-context 4096 --controllers none,fixed:4,fixed:6,fixed:8,fixed:12,aimd,pi": (
        "--agents 4 --controllers none,pi",
        LONG,
    ),
    "concur compare run.jsonl --url http://localhost:8000": ("--controllers none,working-set", LONG),
    "python openai_tools.py --model qwen3-32b --agents 8": ("--url http://localhost:8000", "the port is another one"),
}
"""Options that are added to a command, and why. Of an option that is there twice the last one counts."""

A_TRACE = "the reader's own trace"
FILES = {
    "README.md": {"TRACE.jsonl.gz": A_TRACE},
    "docs/simulation.md": {"trace.jsonl.gz": A_TRACE},
    "docs/measurements.md": {"agentcgroup_glm.jsonl.gz": "published elsewhere"},
    "docs/examples.md": {"openai_tools.py": "of the folder examples, which the page says to be in"},
}
"""Files that a page takes for given, by its name: a small trace of three agents, or the example of that name."""

ENGINE_OF_ITS_OWN = "installs a vLLM for the CPU, 4 GB, and runs it"
NOT_RUN = {
    "make demo": "it is `concur demo`, which is run",
    "make test": "these are its tests",
    "make live": ENGINE_OF_ITS_OWN,
    """make live LIVE_ARGS="-k 'test_simulation or test_scheduler'\"""": ENGINE_OF_ITS_OWN,
    "python3 -m venv .venv && . .venv/bin/activate": "`make test` does so before it runs the tests",
    "pip install '.[all]'": "needs a registry; `make test` installs the same before it runs the tests",
    "python scripts/live_vllm.py serve --kv-tokens 4096 --max-model-len 2048": ENGINE_OF_ITS_OWN,
    "python scripts/live_vllm.py serve --kv-tokens 8192 --max-model-len 4096": ENGINE_OF_ITS_OWN,
    "python benchmarks/controllers.py --traces DIR --cases pressure --seeds 3 --json results.json": (
        "needs traces that are published elsewhere, and hours"
    ),
    'python benchmarks/controllers.py --traces DIR --cases calm,short,shapes,arrivals,sizes,"tool waits" '
    "--json results.json": "needs traces that are published elsewhere, and hours",
    "vllm serve Qwen/Qwen3-8B --enable-prompt-tokens-details": "needs vLLM, a GPU and 16 GB of weights",
    "python agents.py": "is run by test_tutorial.py on the engine's clock, which takes seconds in place of minutes",
}
"""Commands that are not run, and why. test_not_run.py sees of each what can be seen without running it."""


@dataclass(frozen=True)
class Prints:
    """A `text` block is what a command prints.

    Attributes:
        command: As it is on the page.
        by: The test that compares them.
    """

    command: str
    by: str


TEXT: dict[tuple[str, str], Prints | str] = {
    ("docs/doctor.md", "http://localhost:8000\n"): Prints("concur doctor http://localhost:8000", "test_shown.py"),
    ("docs/tutorial.md", "             makespan  output "): Prints("concur demo", "test_shown.py"),
    ("docs/tutorial.md", "concur: qwen3-8b on "): (
        Prints("concur serve --model qwen3-8b --hardware rtx-4090 --speed 5", "test_shown.py")
    ),
    ("docs/tutorial.md", "concur_agents: budget undecided "): Prints("python agents.py", "test_tutorial.py"),
    ("docs/telemetry.md", "invoke_agent solver "): "a tree of spans; test_shown.py makes the same",
    ("docs/behaviour.md", "queued ──admit──▶ active "): "a diagram; test_shown.py looks up the names in it",
    ("docs/controllers.md", "pause  while  Σ (f + g)  "): "a formula, of tests/control",
    ("docs/controllers.md", "W += 2      if U < 0.2\n"): "a formula, of tests/control",
    ("docs/hardware.md", "time = max(weights / B, "): "a formula, of tests/simulation",
    ("docs/launch.md", "KV bytes a token   2 · layers "): "a formula, of tests/launch",
}
"""Every `text` block, by its page and how it begins: whose output it is, or why it is nobody's."""

BLOCKS = {
    "python": "run by run_page.py",
    "bash": "run, see above",
    "console": "run, see above, and what is shown compared",
    "text": "compared with what prints it, see above",
    "diff": "compared with the difference of the files that it names",
    "yaml": "read; Prometheus's are checked by promtool",
    "json": "read, and compared with what writes it or reads it",
    "promql": "read by promtool",
    "{eval-rst}": "each name in it is looked up; `make docs` builds it",
    "{toctree}": "each page in it is looked up; `make docs` builds it",
    "{literalinclude}": "the file is looked up and run by tests/examples; `make docs` builds it",
    "{concur-help}": "printed by the command itself; test_commands.py runs what the helps show",
}
"""Every kind of block, and what the tests do with it."""
