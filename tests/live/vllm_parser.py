"""Reads arguments with the parser of `vllm serve`; runs in vLLM's environment.

    python tests/live/vllm_parser.py < CASES

CASES is a JSON list of command lines after `vllm`. Prints a line of JSON: for each what vLLM makes of it, or how it
refuses it. `context` is the longest context of the model as vLLM works it out; that needs the model's config.json, so
it is None for a model that is no folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.update(VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1", VLLM_LOGGING_LEVEL="ERROR")

from vllm import AsyncEngineArgs
from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.utils.argparse_utils import FlexibleArgumentParser

TOLD = (
    "model",
    "served_model_name",
    "host",
    "port",
    "tensor_parallel_size",
    "max_model_len",
    "gpu_memory_utilization",
    "kv_cache_dtype",
    "max_num_seqs",
    "max_num_batched_tokens",
    "scheduling_policy",
    "enable_prefix_caching",
    "enable_prompt_tokens_details",
    "enable_force_include_usage",
    "kv_cache_metrics",
    "enable_auto_tool_choice",
    "tool_call_parser",
    "disable_log_stats",
    "disable_access_log_for_endpoints",
    "seed",
)


def read(words: list[str]) -> dict[str, Any]:
    """What vLLM makes of a command line, as far as it goes before the model is loaded."""
    parser = FlexibleArgumentParser()
    command = ServeSubcommand()
    command.subparser_init(parser.add_subparsers(dest="subparser"))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            arguments = parser.parse_args(words)
    except SystemExit:
        return {"refused": said.getvalue().splitlines()[-1]}
    if getattr(arguments, "model_tag", None) is not None:  # as `vllm serve` does before anything else
        arguments.model = arguments.model_tag
    command.validate(arguments)
    told = {name: getattr(arguments, name) for name in TOLD}
    if not Path(arguments.model).is_dir():
        return told | {"context": None}
    return told | {"context": AsyncEngineArgs.from_cli_args(arguments).create_model_config().max_model_len}


if __name__ == "__main__":
    print(json.dumps([read(words) for words in json.load(sys.stdin)]))  # noqa: T201
