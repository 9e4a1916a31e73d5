"""What the pages show is what there is: output, differences of files, data, the names in directives."""

from __future__ import annotations

import asyncio
import difflib
import importlib
import json
import re
import shutil
import subprocess

import pytest
from docs.pages import DOCS, PAGES, ROOT, blocks, commands, name_of
from docs.treated import TEXT, Prints
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from typer.testing import CliRunner

from concur_agents import ConcurGate
from concur_agents.cli.app import app
from concur_agents.place import State
from concur_agents.replay.shape import Shape
from concur_agents.replay.workload import Workload
from concur_agents.simulation.virtual_time import run
from concur_agents.telemetry import trace_opentelemetry

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool, of Debian's package prometheus"
)
OF_A_REAL_VLLM = {
    "version": "it is the engine's own",
    "restarts": "the engine does not tell when it was started",
}
"""Findings that the doctor words otherwise of the embedded engine than of the vLLM that the page shows."""


def shown_in(page, language):
    return [block for block in blocks(ROOT / page) if block.language == language]


def the_text(page, beginning):
    (block,) = [block for block in shown_in(page, "text") if block.text.startswith(beginning)]
    return block.text


def words_without_figures(text):
    return re.sub(r"\d[\d,.]*", "#", " ".join(text.split()))


def test_each_text_is_output_or_nobodys():
    texts = [(name_of(page), block.text) for page in PAGES for block in shown_in(name_of(page), "text")]
    said = [sum(page == where and text.startswith(beginning) for where, beginning in TEXT) for page, text in texts]
    assert {text for (_, text), number in zip(texts, said, strict=True) if number != 1} == set()
    assert len(texts) == len(TEXT)
    for (page, beginning), what in TEXT.items():
        if isinstance(what, Prints):
            assert what.command in {one.text for block in blocks(ROOT / page) for one in commands(block)}, beginning
            assert (ROOT / "tests" / "docs" / what.by).is_file()


def test_the_server_says_what_the_tutorial_shows(ran_on):
    command = "concur serve --model qwen3-8b --hardware rtx-4090 --speed 5"
    said = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8000", ran_on("docs/tutorial.md")[command].err)
    assert said == the_text("docs/tutorial.md", "concur: qwen3-8b on")


def rows(table):
    """The rows of a comparison by their controllers, and what stands above them."""
    lines = table.splitlines()
    rule = next(number for number, line in enumerate(lines) if set(line.strip()) == {"─"})
    heading = " ".join(" ".join(lines[rule - 2 : rule]).split())
    return heading, {line.split()[0]: line.split()[1:] for line in lines[rule + 1 :] if line[:1].isalpha()}


def test_the_demo_prints_the_table_of_the_tutorial(ran_on):
    heading, shown = rows(the_text("docs/tutorial.md", "    "))
    printed, ran = rows(ran_on("docs/tutorial.md")["concur demo"].out.partition("\n\n")[0])
    assert printed == heading
    assert {name: len(cells) for name, cells in ran.items()} == {name: len(cells) for name, cells in shown.items()}


def test_the_figures_of_the_demo_are_those_of_its_agents_run_without_langgraph():
    heading, shown = rows(the_text("docs/tutorial.md", "    "))
    command = "compare workload:search --agents 72 --scale 0.25 --model qwen3-8b --hardware a100-40"
    result = CliRunner().invoke(app, [*command.split(), "--controllers", ",".join(shown)], env={"COLUMNS": "100"})
    printed, ran = rows(result.stdout.partition("\n\n")[0])
    assert printed == heading
    for name, cells in shown.items():
        makespan, rate, speedup, hits = (float(cell.strip("×").replace(",", "")) for cell in cells[:4])
        again = [float(cell.strip("×").replace(",", "")) for cell in ran[name][:4]]
        assert again == pytest.approx([makespan, rate, speedup, hits], rel=0.1)


def findings(text):
    """What the doctor says, by its checks: the level and the sentences, as long as they may be."""
    found = {}
    for line in text.splitlines()[1:-1]:
        head = re.match(r"(ok|note|warn|fail) +([\w-]+) +(.*)", line)
        if head:
            last = head[2]
            found[last] = [head[1], head[3]]
        else:
            found[last][1] += f" {line.strip()}"
    return {check: (level, words_without_figures(says)) for check, (level, says) in found.items()}


def test_the_doctor_finds_what_its_page_shows(ran_on):
    shown = the_text("docs/doctor.md", "http://localhost:8000")
    said = ran_on("docs/doctor.md")["concur doctor http://localhost:8000"].out
    on_the_page, here = findings(shown.replace("serves tiny", "serves qwen3-32b")), findings(said)
    assert list(here) == list(on_the_page)
    differ = {check for check, found in here.items() if found != on_the_page[check]}
    assert differ == set(OF_A_REAL_VLLM), {check: (here[check], on_the_page[check]) for check in differ}
    assert words_without_figures(said.splitlines()[-1]) == words_without_figures(shown.splitlines()[-1])


def test_the_spans_of_an_agent_are_the_tree_of_the_page():
    kept = InMemorySpanExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(kept))
    tracer = tracers.get_tracer("a client's")

    async def call(agent):
        async with agent.turn():
            with tracer.start_as_current_span("chat qwen3-8b"):
                await asyncio.sleep(1)

    async def main():
        async with ConcurGate(None, controller="none") as gate:
            trace_opentelemetry(gate, tracer_provider=tracers)
            async with gate.agent(kind="solver") as agent:
                await call(agent)
                async with gate.hold():
                    turn = asyncio.create_task(call(agent))
                    await asyncio.sleep(1)
                await turn
                async with gate.agent(kind="critic"):
                    pass

    run(main())
    *below, root = kept.get_finished_spans()
    assert {span.parent.span_id for span in below} == {root.context.span_id}
    tree = the_text("docs/telemetry.md", "invoke_agent solver").splitlines()
    assert [re.split(r"  +", line.lstrip("├└─ "))[0] for line in tree] == [root.name, *(span.name for span in below)]


def test_the_diagram_of_an_agents_life_names_its_states():
    diagram = the_text("docs/behaviour.md", "queued")
    assert {"queued", "active", "paused", "finished"} == set(re.findall(r"\w+", diagram)) & {
        state.value for state in State
    }


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES if shown_in(name_of(page), "diff")])
def test_a_difference_is_that_of_the_files_that_it_names(page):
    for block in shown_in(page, "diff"):
        names = re.findall(r"^(?:---|\+\+\+) (.+)$", block.text, re.MULTILINE)
        before, after = (
            ((ROOT / page).parent / name).read_text(encoding="utf-8").splitlines(keepends=True) for name in names
        )
        assert block.text == "".join(difflib.unified_diff(before, after, *names, n=1))


def test_the_json_of_the_log_is_what_the_page_writes(python_of):
    (block,) = shown_in("docs/telemetry.md", "json")
    shown = json.loads(block.text)
    logged = [json.loads(line) for line in python_of("docs/telemetry.md").stderr.splitlines() if line.startswith("{")]
    (said,) = [record for record in logged if record["message"].startswith("agent 'task-18' finished")]
    varying = ("session_id", "waited_s", "tool_wait_s")
    assert list(said["agent"]) == list(shown["agent"])
    for record in (said, shown):
        del record["asctime"]
        for name in varying:
            assert record["agent"].pop(name) is not None
    assert said == shown


def test_the_trace_of_the_page_is_one(tmp_path):
    (block,) = shown_in("docs/workloads.md", "json")
    decoder, text, agents = json.JSONDecoder(), block.text.strip(), []
    while text:  # on the page an agent takes several lines
        agent, end = decoder.raw_decode(text)
        agents.append(json.dumps(agent))
        text = text[end:].lstrip()
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(agents))
    assert len(Workload.load(str(path), Shape()).agents) == len(agents)


@needs_promtool
@pytest.mark.parametrize("page", [name_of(page) for page in PAGES if shown_in(name_of(page), "yaml")])
def test_the_yaml_is_a_configuration_of_prometheus(page, python_of, folder_of):
    assert python_of(page).returncode == 0  # it puts the alerts beside it
    (block,) = shown_in(page, "yaml")
    (folder_of(page) / "prometheus.yml").write_text(block.text, encoding="utf-8")
    _checked(["promtool", "check", "config", "prometheus.yml"], folder_of(page))


@needs_promtool
@pytest.mark.parametrize("page", [name_of(page) for page in PAGES if shown_in(name_of(page), "promql")])
def test_prometheus_can_read_a_question(page, tmp_path):
    rules = [{"record": f"shown:{block.line}", "expr": block.text} for block in shown_in(page, "promql")]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "shown", "rules": rules}]}), encoding="utf-8")
    _checked(["promtool", "check", "rules", "rules.yml"], tmp_path)


def _checked(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_what_a_directive_names_is_there(page):
    for block in blocks(ROOT / page):
        kind, _, argument = block.language.partition(" ")
        if kind == "{toctree}":
            for name in [line for line in block.text.splitlines() if line and not line.startswith(":")]:
                assert ((ROOT / page).parent / f"{name}.md").is_file(), f"{page}: {name}"
        elif kind == "{literalinclude}":
            assert ((ROOT / page).parent / argument).is_file(), f"{page}: {argument}"
            for limit in re.findall(r'^:(?:start-after|end-before): "(.+)"$', block.text, re.MULTILINE):
                assert limit in ((ROOT / page).parent / argument).read_text(encoding="utf-8")


def test_each_name_in_the_reference_leads_to_what_it_names():
    for page in sorted((DOCS / "reference").glob("*.md")):
        module = "concur_agents"
        for line in page.read_text(encoding="utf-8").splitlines():
            if current := re.match(r"\.\. currentmodule:: (\S+)", line):
                module = current[1]
            elif named := re.match(r"\.\. auto\w+:: (\S+)", line):
                found = resolved(named[1] if named[1].startswith("concur_agents.") else f"{module}.{named[1]}")
            elif members := re.match(r"   :members: (.+)", line):
                for member in members[1].split(", "):
                    assert hasattr(found, member), f"{page.name}: {member}"


def resolved(path):
    """What a dotted path leads to: a module as far as it goes, then attributes."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise AssertionError(path)
