from __future__ import annotations

import asyncio
import os

import pytest
from replay_vllm import FakeVLLM
from typer.testing import CliRunner

from concur_agents.cli import fit as fit_module
from concur_agents.cli.app import app
from concur_agents.cli.fit import print_calibration
from concur_agents.replay.calibrate import Calibration, Timed
from concur_agents.simulation.profile import EngineProfile, LinearProfile


@pytest.fixture
async def vllm():
    async with FakeVLLM() as server:
        yield server


@pytest.fixture
def quick(monkeypatch):
    """One pass: the stand-in answers at once, whatever it is asked."""
    monkeypatch.setattr("concur_agents.replay.calibrate.PASSES", 1)


async def concur(*arguments, **environment):
    """Runs the command in a thread, for it has an event loop of its own."""
    env = {name: None for name in ("OPENAI_API_KEY",) if name in os.environ} | environment
    return await asyncio.to_thread(CliRunner(env=env).invoke, app, [str(argument) for argument in arguments])


async def test_a_server_is_measured_and_written_for_the_embedded_engine(vllm, tmp_path, quick):
    file = tmp_path / "server.json"

    result = await concur("fit", vllm.url, file, "--max-num-seqs", 64, "--no-async-scheduling")

    assert result.exit_code == 0, result.output
    profile = EngineProfile.load(file)
    assert (profile.name, profile.capacity_tokens, profile.max_model_len) == ("tiny", 16_384, 8192)
    assert (profile.max_num_seqs, profile.max_num_batched_tokens, profile.async_scheduling) == (64, 8192, False)
    assert profile.step_time.kind == "linear"
    assert "vLLM 0.32.0" in profile.description
    assert "measured ms" in result.stdout
    assert "1 token" in result.stdout
    assert f"concur compare workload:swe --fit {file}" in result.stderr.replace("\n", "")
    assert "1/23: 1 token" in result.stderr

    compared = await concur("compare", "workload:no-pressure", "--agents", 2, "--controllers", "none", "--fit", file)
    assert compared.exit_code == 0, compared.output


async def test_every_probe_asks_for_exact_lengths_in_a_cache_of_its_own(vllm, tmp_path, quick):
    await concur("fit", vllm.url, tmp_path / "server.json")

    (bodies,) = vllm.bodies_by_salt().values()
    assert all(body["ignore_eos"] and body["min_tokens"] == body["max_tokens"] for body in bodies)
    assert max(len(body["prompt"]) for body in bodies) == 16_384 // 4 - 64


async def test_the_key_of_the_environment_is_sent_and_never_shown(vllm, tmp_path, quick):
    file = tmp_path / "server.json"

    result = await concur("fit", vllm.url, file, OPENAI_API_KEY="sk-secret")

    assert {headers["Authorization"] for headers in vllm.headers} == {"Bearer sk-secret"}
    assert "sk-secret" not in result.output + file.read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["localhost:8000", "{file}"], "is no http or https address"),
        (["http://127.0.0.1:1", "{file}"], "nothing answers at http://127.0.0.1:1"),
        (["{url}", "/nowhere/server.json"], "no file can be written there"),
        (["{url}", "."], "no file can be written there"),
        (["{url}", "{file}", "--model", "big"], "has no model 'big': it has tiny"),
        (["{url}", "{file}", "--max-num-seqs", "0"], "max_num_seqs is 0: it must be 1 or more"),
        (["{url}", "{file}", "--max-num-batched-tokens", "8"], "must be at least max_num_seqs"),
    ],
)
async def test_a_mistake_is_told_in_one_line_and_nothing_is_written(vllm, tmp_path, arguments, says):
    file = tmp_path / "server.json"

    result = await concur("fit", *(argument.format(url=vllm.url, file=file) for argument in arguments))

    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("concur: error: ")
    assert says in line
    assert result.stdout == ""
    assert not file.exists()
    assert not vllm.bodies_by_salt()


async def test_a_server_that_is_not_idle_is_told_and_keeps_the_old_file(vllm, tmp_path, monkeypatch):
    monkeypatch.setattr("concur_agents.replay.calibrate.IDLE_LIMIT_S", 0.1)
    file = tmp_path / "server.json"
    file.write_text("as it was")
    vllm.stuck_running = 3

    result = await concur("fit", vllm.url, file)

    assert result.exit_code == 1
    assert "3 requests still run or wait" in result.stderr
    assert file.read_text() == "as it was"


def test_ctrl_c_writes_nothing(monkeypatch, tmp_path):
    async def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit_module, "_calibrate", interrupted)
    result = CliRunner().invoke(app, ["fit", "http://localhost:1", str(tmp_path / "server.json")])

    assert result.exit_code == 130
    assert "stopped; nothing is written" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_table_shows_each_measurement_beside_what_the_profile_makes_of_it(capsys):
    profile = EngineProfile(
        name="tiny", description="a server", blocks=512, max_model_len=1000, step_time=LinearProfile(step=0.01)
    )

    print_calibration(Calibration(profile, (Timed("read 100", (0.19, 0.2, 0.25), 0.22),)))

    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if "read 100" in line)
    assert row.split() == ["read", "100", "200", "220", "+10", "%", "±15", "%"]
    assert "a step: 10 ms" in shown
    assert "typical error 10 %" in shown


def test_help_teaches_how_to_use_the_file():
    shown = CliRunner().invoke(app, ["fit", "--help"]).stdout

    assert "concur fit http://localhost:8000 my-server.json" in shown
    assert "concur compare workload:swe --fit my-server.json" in shown
