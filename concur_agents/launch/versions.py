"""Which vLLM has which flag: read in the sources of every minor release from 0.9.0 to 0.33.0."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Version: TypeAlias = tuple[int, int, int]

OLDEST: Version = (0, 9, 0)
NEWEST: Version = (0, 33, 0)

SINCE: Mapping[str, Version] = MappingProxyType(
    {
        "--enable-force-include-usage": (0, 9, 2),
        "--enable-log-requests": (0, 10, 1),
        "--kv-offloading-size": (0, 11, 1),
        "--kv-cache-metrics": (0, 12, 0),
        "--disable-access-log-for-endpoints": (0, 16, 0),
        "--watermark": (0, 24, 0),
        "--max-num-queued-reqs": (0, 29, 0),
        "--max-num-queued-tokens": (0, 29, 0),
    }
)
"""The first release that has a flag, for those that came after 0.9.0 (engine/arg_utils.py, and the front end's
cli_args.py, which moved from entrypoints/openai to launchers and then to common)."""

UNTIL: Mapping[str, Version] = MappingProxyType({"--disable-log-requests": (0, 17, 0), "--rope-scaling": (0, 11, 1)})
"""The first release that has a flag no more."""

PARSERS_SINCE: Mapping[str, Version] = MappingProxyType({"glm45": (0, 10, 1), "openai": (0, 10, 2)})
"""The first release with a parser of tool calls, for those that came after 0.9.0 (tool_parsers)."""

REQUESTS_UNLOGGED_SINCE: Version = (0, 10, 1)
"""Until then the prompt of every request is written to the log unless told otherwise."""

UTILIZATION_RAISED_SINCE: Version = (0, 20, 0)
"""Until then `--gpu-memory-utilization` is 0.9 by default, then 0.92 (config/cache.py)."""

ROPE_PARAMETERS_SINCE: Version = (0, 12, 0)
"""Until then the config calls them `rope_scaling` (transformers_utils/config.py `patch_rope_parameters`)."""


def parse_version(text: str) -> Version:
    """Read a release of vLLM.

    Args:
        text: Such as `0.32`, `0.10.2`, `v0.11.0` or `0.9.0.1`; what follows the third number counts for nothing.

    Raises:
        ValueError: It is no release, or one before 0.9, whose metrics and usage tell a gate too little.
    """
    match = re.fullmatch(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:[.+]?[\w.+]*)?", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no release of vLLM: write it as 0.32 or 0.10.2")
    major, minor, patch = (int(part or 0) for part in match.groups())
    version = (major, minor, patch)
    if version < OLDEST:
        raise ValueError(f"vLLM {text} is before 0.9, the first release that this knows: use a newer one")
    return version


def has_flag(version: Version, name: str) -> bool:
    """Whether a release has a flag, of those that not all have."""
    return SINCE.get(name, OLDEST) <= version and (name not in UNTIL or version < UNTIL[name])


def written(version: Version) -> str:
    """As people write it: `0.32`, `0.10.2`."""
    return ".".join(map(str, version if version[2] else version[:2]))
