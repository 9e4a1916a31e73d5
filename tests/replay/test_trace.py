from __future__ import annotations

import gzip
import json

import pytest

from concur_agents.errors import ConcurError
from concur_agents.replay.trace import AgentTrace, TraceError, read_traces

STEP = {"context_tokens": 10, "new_input_tokens": 4, "output_tokens": 3, "tool_seconds": 0.5}
LINE = {"agent_id": "a", "prefix_group": "g", "shared_prefix_tokens": 5, "steps": [STEP]}


def write(path, *lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def test_reads_every_agent_in_the_order_of_the_file(tmp_path):
    path = write(tmp_path / "t.jsonl", LINE, LINE | {"agent_id": "b"})

    agents = read_traces(path)

    assert [agent.agent_id for agent in agents] == ["a", "b"]
    assert agents[0].shared_prefix_tokens == 5
    assert agents[0].steps[0].kept_tokens == 6
    assert agents[0].steps[0].tool_seconds == 0.5


def test_reads_gzip_and_skips_empty_lines(tmp_path):
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress(f"\n{json.dumps(LINE)}\n\n".encode()))

    assert [agent.agent_id for agent in read_traces(path)] == ["a"]


def test_fields_it_does_not_know_and_fields_left_out_do_no_harm(tmp_path):
    step = {"context_tokens": 7, "new_input_tokens": 7, "output_tokens": 1, "tools": ["Bash"], "reset": True}
    path = write(tmp_path / "t.jsonl", {"agent_id": "a", "steps": [step], "tokens": "chars/4", "new": 1})

    (agent,) = read_traces(path)

    assert agent.parent is None
    assert agent.start_seconds == 0.0
    assert agent.steps[0].spawns == ()
    assert agent.prefix_group == ""
    assert agent.steps[0].tool_seconds is None
    assert agent.steps[0].reset


def with_step(**changes):
    return LINE | {"steps": [STEP | changes]}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{not json", "Invalid JSON"),
        ("[1]", "Input should be an object"),
        (LINE | {"steps": []}, "steps: "),
        ({"steps": [STEP]}, "agent_id: Field required"),
        (with_step(context_tokens=0, new_input_tokens=0), "steps.0.context_tokens"),
        (with_step(new_input_tokens=11), r"new_input_tokens \(11\) exceeds context_tokens \(10\)"),
        (with_step(output_tokens=-1), "steps.0.output_tokens"),
        (with_step(output_tokens=1.5), "steps.0.output_tokens"),
        (with_step(tool_seconds=-0.1), "steps.0.tool_seconds"),
        (with_step(tool_seconds=float("nan")), "Invalid JSON|steps.0.tool_seconds"),
        (LINE | {"shared_prefix_tokens": -1}, "shared_prefix_tokens"),
        (LINE | {"start_seconds": -1}, "start_seconds"),
        (with_step(spawns=["b"]), "the last step spawns b: give it a step after that"),
    ],
)
def test_a_bad_line_is_told_by_file_line_and_fault(tmp_path, line, says):
    path = write(tmp_path / "t.jsonl", LINE, line)

    with pytest.raises(TraceError, match=rf"t\.jsonl, line 2: .*{says}|t\.jsonl, line 2: {says}") as caught:
        read_traces(path)

    assert isinstance(caught.value, ConcurError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.csv", b"", "a trace is a .jsonl"),
        ("t.jsonl", b"\n", "holds no agent"),
        ("t.jsonl", b"\xff\xfe", "cannot be read"),
        ("t.jsonl.gz", b"plain text", "cannot be read: Not a gzipped file"),
        ("t.jsonl.gz", gzip.compress(b"x" * 1000)[:-20], "cannot be read"),
        ("t.jsonl.gz", gzip.compress(b"x" * 1000)[:12] + b"\xff" * 40, "cannot be read"),
    ],
)
def test_a_file_that_is_no_trace_is_told_by_name(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(TraceError, match=says):
        read_traces(path)


def test_a_missing_file_and_a_folder_are_told_by_name(tmp_path):
    (tmp_path / "folder.jsonl").mkdir()

    with pytest.raises(TraceError, match=r"none\.jsonl: cannot be read: No such file"):
        read_traces(tmp_path / "none.jsonl")
    with pytest.raises(TraceError, match=r"folder\.jsonl: cannot be read: Is a directory"):
        read_traces(tmp_path / "folder.jsonl")


def test_an_agent_cannot_be_changed_by_accident():
    agent = AgentTrace.model_validate(LINE)

    with pytest.raises(ValueError, match="frozen"):
        agent.agent_id = "b"
