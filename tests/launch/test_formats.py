"""What is written is read by the tool that it is for."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml

from concur_agents.errors import MissingExtra
from concur_agents.launch import FORMATS, SglangProfile, TensorRtLlmProfile, VllmProfile, render
from concur_agents.launch.systemd import quoted

AWKWARD = ("--override-generation-config", """{"a": "it's $HOME $(date) 100% `x` \\\\ ü"}""")
"""Quotes of both kinds, variables, substitutions, percent signs, a backslash."""


def vllm(**told):
    return VllmProfile(**({"model": "qwen3-32b", "gpus": 8, "agents": 256, "context": 65_536} | told))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "My Model"
    path.mkdir()
    shape = {"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4, "vocab_size": 1000}
    (path / "config.json").write_text(json.dumps(shape | {"intermediate_size": 512, "max_position_embeddings": 8192}))
    return path


def deployment(profile, **options):
    documents = {one["kind"]: one for one in yaml.safe_load_all(render(profile, "k8s", **options))}
    return documents["Deployment"], documents


@pytest.mark.parametrize("profile", [vllm(), vllm(extra=AWKWARD)], ids=["plain", "awkward"])
def test_the_script_runs_the_very_arguments(profile, tmp_path):
    script = tmp_path / "serve.sh"
    script.write_text(render(profile, program=["python3", "-c", "import sys, json; print(json.dumps(sys.argv[1:]))"]))

    ran = subprocess.run(["bash", script], capture_output=True, text=True, check=True)

    assert json.loads(ran.stdout) == profile.arguments()


def test_the_script_says_what_fits_and_one_reason_a_flag():
    profile = vllm()

    script = render(profile)

    assert "# About 2,017,000 tokens of KV cache: 30 agents of 65,536 tokens at once." in script
    for flag in profile.flags():
        assert script.count(f"\n  {shlex.join(flag.words)} ") == 1
        assert f"# {flag.reason}" in script


def test_the_arguments_are_words_of_a_shell():
    profile = vllm(extra=AWKWARD)

    text = render(profile, "args")

    assert text.count("\n") == 1
    assert shlex.split(text) == profile.arguments()
    through = subprocess.run(
        ["xargs", sys.executable, "-c", "import sys, json; print(json.dumps(sys.argv[1:]))"],
        input=render(vllm(), "args"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(through.stdout) == vllm().arguments()


def test_the_config_file_says_the_same_as_the_arguments():
    profile = vllm(extra=(*AWKWARD, "--seed", "1", "--lora-modules", "a=b", "c=d", "--api_server_count=2"))

    read = yaml.safe_load(render(profile, "yaml"))

    assert read["model"] == "Qwen/Qwen3-32B"
    assert read["enable-prefix-caching"] is True
    assert read["max-model-len"] == 65_536
    assert read["gpu-memory-utilization"] == 0.92
    assert json.loads(read["hf-overrides"])["max_position_embeddings"] == 65_536
    assert read["override-generation-config"] == AWKWARD[1]
    assert (read["lora-modules"], read["api-server-count"]) == (["a=b", "c=d"], 2)


def test_a_compose_file_opens_the_port_to_this_machine_only():
    text = render(vllm(extra=AWKWARD), "compose")

    (service,) = yaml.safe_load(text)["services"].values()
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    assert service["command"][service["command"].index("--host") + 1] == "0.0.0.0"
    assert service["environment"] == {"VLLM_API_KEY": None, "HF_TOKEN": None}
    assert service["image"] == "vllm/vllm-openai:v0.33.0"
    assert service["deploy"]["resources"]["reservations"]["devices"][0]["count"] == 8


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
@pytest.mark.parametrize("case", ["plain", "awkward", "folder", "amd", "sglang"])
def test_docker_compose_reads_it(case, folder, tmp_path):
    profile = {
        "plain": vllm(),
        "awkward": vllm(extra=AWKWARD),
        "folder": VllmProfile(model=str(folder), agents=8, context=8192),
        "amd": vllm(hardware="mi300x", image="rocm/vllm:1"),
        "sglang": SglangProfile(model="qwen3-32b", gpus=8, agents=8, context=40_960),
    }[case]
    (tmp_path / "compose.yaml").write_text(render(profile, "compose"))

    read = subprocess.run(
        ["docker-compose", "-f", "compose.yaml", "config"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "VLLM_API_KEY": "sk-here"},
    )

    assert read.returncode == 0, read.stderr
    (service,) = yaml.safe_load(read.stdout)["services"].values()
    # `config` writes what can be read again, so that a `$` is still doubled.
    assert [word.replace("$$", "$") for word in service["command"]] == profile.inside_container().arguments()
    if case == "plain":
        assert service["environment"]["VLLM_API_KEY"] == "sk-here"


@pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("case", ["plain", "awkward", "folder", "amd", "sglang"])
def test_kubernetes_takes_every_document(case, version, folder):
    profile = {
        "plain": vllm(),
        "awkward": vllm(extra=AWKWARD),
        "folder": VllmProfile(model=str(folder), agents=8, context=8192),
        "amd": vllm(hardware="mi300x", image="rocm/vllm:1"),
        "sglang": SglangProfile(model="qwen3-32b", gpus=8, agents=8, context=40_960),
    }[case]

    documents = list(yaml.safe_load_all(render(profile, "k8s")))

    assert {"Deployment", "Service"} <= {document["kind"] for document in documents}
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


def test_the_validator_would_find_a_fault():
    broken, _ = deployment(vllm())
    broken["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.29", strict=True)


def test_a_pod_is_watched_and_scraped_and_gets_its_key_from_a_secret():
    made, documents = deployment(vllm(port=9000, extra=AWKWARD))

    pod = made["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}
    assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] == 1800
    assert pod["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "9000",
        "prometheus.io/path": "/metrics",
    }
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    assert container["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "vllm-qwen3-32b", "key": "api-key"}
    assert "$$(date)" in " ".join(container["args"])  # a single $ would be a reference to a variable
    assert documents["Service"]["spec"]["selector"] == pod["metadata"]["labels"]
    assert documents["Service"]["spec"]["ports"][0]["port"] == 9000
    assert documents["PersistentVolumeClaim"]["spec"]["resources"]["requests"]["storage"] == "84Gi"


def test_a_service_is_never_called_as_one_of_vllms_settings():
    """Kubernetes sets NAME_PORT for each service of that NAME, and vLLM reads VLLM_PORT."""
    made, documents = deployment(vllm(served_name="!!!"))

    assert documents["Service"]["metadata"]["name"] == "vllm-model"
    assert made["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_a_folder_is_mounted_and_served_under_its_name(folder):
    profile = VllmProfile(model=str(folder), agents=8, context=8192)

    made, documents = deployment(profile)
    (service,) = yaml.safe_load(render(profile, "compose"))["services"].values()

    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["args"][:3] == ["/model", "--served-model-name", "My Model"]
    assert made["spec"]["template"]["spec"]["volumes"][0]["hostPath"]["path"] == str(folder)
    assert "PersistentVolumeClaim" not in documents
    assert f"{folder}:/model:ro" in service["volumes"]
    assert profile.arguments()[:3] == [str(folder), "--served-model-name", "My Model"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("extra", [(), AWKWARD], ids=["plain", "awkward"])
def test_systemd_reads_the_unit(extra, tmp_path):
    unit = tmp_path / "vllm.service"
    unit.write_text(render(vllm(extra=extra), "systemd", program=["/usr/bin/env", "vllm", "serve"]))

    read = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False, timeout=60
    )

    assert [line for line in read.stderr.splitlines() if "vllm.service" in line] == []
    assert read.returncode == 0, read.stderr


def test_a_unit_needs_the_whole_path_of_its_program():
    with pytest.raises(ValueError, match="--executable"):
        render(vllm(), "systemd")


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("--max-model-len", "--max-model-len"),
        ("a b", '"a b"'),
        ('{"a": 1}', '"{\\"a\\": 1}"'),
        ("100%", '"100%%"'),
        ("$HOME", '"$$HOME"'),
        ("a\\b", '"a\\\\b"'),
        ("it's", '"it\'s"'),
        ("", '""'),
    ],
)
def test_words_are_written_as_systemd_reads_them(word, written):
    assert quoted(word) == written


def test_an_amd_image_has_to_be_named():
    with pytest.raises(ValueError, match="Name one made for ROCm"):
        render(vllm(hardware="mi300x"), "compose")


def test_no_secret_of_the_environment_gets_into_a_file(monkeypatch):
    for name in ("VLLM_API_KEY", "HF_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "sk-secret")

    for form in FORMATS:
        assert "sk-secret" not in render(vllm(), form, program=["/bin/true"])


def test_a_format_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="no format 'toml': use one of command, args, yaml"):
        render(vllm(), "toml")


def test_without_pyyaml_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)

    with pytest.raises(MissingExtra, match=r"concur-agents\[cli\]"):
        render(vllm(), "yaml")
    assert "vllm serve" in render(vllm())


def test_sglang_is_written_by_its_own_names_and_marked_as_not_run():
    profile = SglangProfile(model="qwen3-32b", gpus=8, agents=256, context=40_960, fp8_kv=True, priorities=True)

    words = profile.arguments()

    assert words[:2] == ["--model-path", "Qwen/Qwen3-32B"]
    for word in ("--enable-metrics", "--enable-cache-report", "--enable-priority-scheduling", "fp8_e4m3", "qwen25"):
        assert word in words
    assert "SGLang was not run" in profile.warnings()[0]
    assert profile.capacity().tokens > 3_000_000
    assert yaml.safe_load(render(profile, "yaml"))["model-path"] == "Qwen/Qwen3-32B"
    with pytest.raises(ValueError, match="everyone on the machine could read it"):
        SglangProfile(model="qwen3-32b", gpus=8, agents=1, context=4096, extra=("--api-key", "x"))
    with pytest.raises(ValueError, match="is made for 40,960 tokens"):
        SglangProfile(model="qwen3-32b", gpus=8, agents=1, context=65_536)


def test_tensorrt_llm_takes_part_of_it_from_a_file(tmp_path):
    profile = TensorRtLlmProfile(model="qwen3-32b", gpus=8, agents=256, context=40_960, fp8_kv=True)

    options = yaml.safe_load(render(profile, "yaml"))

    assert options["return_perf_metrics"] is True
    assert options["kv_cache_config"] == {"enable_block_reuse": True, "dtype": "fp8"}
    assert "--extra_llm_api_options" in profile.arguments()
    assert "TensorRT-LLM was not run" in profile.warnings()[0]
    (tmp_path / "serve.sh").write_text(render(profile, program=["true"]))
    subprocess.run(["bash", "serve.sh"], cwd=tmp_path, check=True)
    assert yaml.safe_load((tmp_path / "options.yaml").read_text()) == options
    with pytest.raises(ValueError, match="use the format command, args or yaml"):
        render(profile, "k8s")
