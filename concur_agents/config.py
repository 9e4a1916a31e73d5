"""The gate's settings, also read from the environment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class GateConfig(BaseSettings):
    """Settings of a gate. Each is also read from the environment: `CONCUR_MAX_AGENTS=64`.

    Attributes:
        url: The server, such as `http://localhost:8000`; its metrics are read from `/metrics` there.
        controller: What decides the budget: `none`, `fixed:N`, `aimd`, `pi` or `working-set`.
        mode: `enforce`, or `observe`: hold nobody, record what would have been decided.
        disabled: Be no gate at all: nothing is held, nothing is polled. `CONCUR_DISABLED=1`.
        metrics: `required`: a server without metrics is an error at the start; `optional`: go on by token counts.
        max_agents: A ceiling on active agents, whatever the controller says (sandboxes, open files).
        poll_interval_s: Time between two looks at the metrics. [s]
        outage_grace_s: How long the budget stays frozen when the metrics are gone, before the gate goes on
            without them. [s]
        floor_agents: Active agents when neither metrics nor token counts are to be had.
        passing_limit_s: How long smaller agents may pass a big one at the head of the queue. [s]
        longest_pause_s: How long an agent may stay paused; then others make room for it as they begin turns. [s]
        turns_per_second: Starts of turns a second, for endpoints with a rate limit; needs the extra `throttle`.
        shared_prefix_tokens: Shared prefix by kind of agent, where it is known beforehand. [tokens]
    """

    # The address may hold a password: neither the repr nor an error that repeats its input may tell it.
    model_config = SettingsConfigDict(env_prefix="CONCUR_", frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str | None = Field(default=None, repr=False)
    controller: str = "working-set"
    mode: Literal["enforce", "observe"] = "enforce"
    disabled: bool = False
    metrics: Literal["required", "optional"] = "required"
    max_agents: PositiveInt | None = None
    poll_interval_s: float = Field(default=1.0, ge=0.25, le=5.0)
    outage_grace_s: float = Field(default=30.0, ge=0.0)
    floor_agents: PositiveInt = 8
    passing_limit_s: float = Field(default=30.0, ge=0.0)
    longest_pause_s: float = Field(default=1800.0, gt=0.0)
    turns_per_second: PositiveFloat | None = None
    shared_prefix_tokens: dict[str, NonNegativeInt] = Field(default_factory=dict)
