"""Writes concur_agents/telemetry/grafana/concur.json: the server and its gate, side by side.

    python scripts/grafana_dashboard.py

The server's names are vLLM's, as in concur_agents/engines/vllm.py; where 0.9 renamed one, both are asked for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

TARGET = Path(__file__).parents[1] / "concur_agents" / "telemetry" / "grafana" / "concur.json"

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GATE, SERVER = '{gate=~"$gate"}', '{instance=~"$server"}'
WIDTH, HEIGHT, STAT_WIDTH, STAT_HEIGHT = 12, 8, 4, 4  # of a screen that is 24 wide


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel.

    Attributes:
        title: Its title.
        text: What to make of it.
        unit: Grafana's name of the unit.
        lines: What each line shows, as PromQL, and its legend.
        highest: Top of the axis; None: as high as it gets.
    """

    title: str
    text: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    highest: float | None = None


def _rate(counter: str, selector: str, by: str) -> str:
    return f"sum by ({by}) (rate({counter}{selector}[$__rate_interval]))"


def _total(counter: str) -> str:
    return f"sum(rate({counter}{GATE}[$__rate_interval]))"


def _quantile(q: float, histogram: str) -> str:
    return f"histogram_quantile({q}, sum by (gate, le) (rate({histogram}_bucket{GATE}[$__rate_interval])))"


def _either(new: str, old: str) -> str:
    return f"({new}) or ({old})"


_USAGE = f"max by (instance) ({_either(f'vllm:kv_cache_usage_perc{SERVER}', f'vllm:gpu_cache_usage_perc{SERVER}')})"
_HITS, _OLD_HITS = "vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"
_QUERIES, _OLD_QUERIES = "vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"
_HIT_RATE = _either(
    f"{_rate(_HITS, SERVER, 'instance')} / {_rate(_QUERIES, SERVER, 'instance')}",
    f"{_rate(_OLD_HITS, SERVER, 'instance')} / {_rate(_OLD_QUERIES, SERVER, 'instance')}",
)
_RECOMPUTED = (
    f"{_rate('concur_recomputed_tokens_total', GATE, 'gate')} / {_rate('concur_reusable_tokens_total', GATE, 'gate')}"
)
_QUEUED = "vllm:request_queue_time_seconds"
_FIRST = "vllm:time_to_first_token_seconds"

STATS = (
    Panel("Active agents", "They hold a place.", "short", ((f"sum(concur_agents_active{GATE})", ""),)),
    Panel(
        "Paused agents",
        "They gave their place up and wait for another.",
        "short",
        ((f"sum(concur_agents_paused{GATE})", ""),),
    ),
    Panel("Queued agents", "They were never admitted yet.", "short", ((f"sum(concur_agents_queued{GATE})", ""),)),
    Panel(
        "Longest wait",
        "Of an agent that waits now, for its first place or paused.",
        "s",
        ((f"max(concur_longest_wait_seconds{GATE})", ""),),
    ),
    Panel("KV usage", "Of the server's fullest engine.", "percentunit", ((f"max({_USAGE})", ""),), 1.0),
    Panel(
        "Read again",
        "Share of the tokens that the cache could have served and did not: thrash. Under a tenth is well.",
        "percentunit",
        ((f"{_total('concur_recomputed_tokens_total')} / {_total('concur_reusable_tokens_total')}", ""),),
        1.0,
    ),
)

ROWS = (
    (
        Panel(
            "Agents at the gate",
            "Active ones hold a place, whether a turn runs or a tool. Paused ones go before queued ones.",
            "short",
            (
                (f"concur_agents_active{GATE}", "{{gate}} active"),
                (f"concur_agents_running{GATE}", "{{gate}} in a turn"),
                (f"concur_agents_paused{GATE}", "{{gate}} paused"),
                (f"concur_agents_queued{GATE}", "{{gate}} queued"),
                (f"concur_budget_agents{GATE}", "{{gate}} budget"),
            ),
        ),
        Panel(
            "Requests on the server",
            "Waiting ones are what the gate is there to keep few.",
            "short",
            (
                (f"sum by (instance) (vllm:num_requests_running{SERVER})", "{{instance}} running"),
                (f"sum by (instance) (vllm:num_requests_waiting{SERVER})", "{{instance}} waiting"),
            ),
        ),
    ),
    (
        Panel(
            "Working set",
            "Contexts of the active agents, against the budget and what fits.",
            "short",
            (
                (f"concur_working_set_tokens{GATE}", "{{gate}} working set"),
                (f"concur_budget_tokens{GATE}", "{{gate}} budget"),
                (f"concur_server_capacity_tokens{GATE}", "{{gate}} capacity"),
            ),
        ),
        Panel(
            "KV cache usage",
            "What requests in flight hold; what is merely cached is not counted.",
            "percentunit",
            ((_USAGE, "{{instance}}"),),
            1.0,
        ),
    ),
    (
        Panel(
            "Read again",
            "Share of the tokens that the cache could have served and did not. High for long: the budget is too wide, "
            "or others use the server.",
            "percentunit",
            ((_RECOMPUTED, "{{gate}}"),),
            1.0,
        ),
        Panel(
            "Prefix cache hit rate",
            "Of all prompt tokens, those found in the cache.",
            "percentunit",
            ((_HIT_RATE, "{{instance}}"),),
            1.0,
        ),
    ),
    (
        Panel(
            "Tokens of gated turns",
            "As the agents' turns reported them.",
            "short",
            (
                (_rate("concur_output_tokens_total", GATE, "gate"), "{{gate}} output tokens/s"),
                (_rate("concur_prompt_tokens_total", GATE, "gate"), "{{gate}} prompt tokens/s"),
                (_rate("concur_cached_tokens_total", GATE, "gate"), "{{gate}} of those, cached"),
            ),
        ),
        Panel(
            "Tokens on the server",
            "More output here than at the gate: others use the server, too.",
            "short",
            (
                (_rate("vllm:generation_tokens_total", SERVER, "instance"), "{{instance}} output tokens/s"),
                (_rate("vllm:prompt_tokens_total", SERVER, "instance"), "{{instance}} prompt tokens/s"),
            ),
        ),
    ),
    (
        Panel(
            "Waits at the gate",
            "Of the agents that have their place by now: for the first one, and before a turn.",
            "s",
            (
                (_quantile(0.5, "concur_admission_wait_seconds"), "{{gate}} admission, median"),
                (_quantile(0.95, "concur_admission_wait_seconds"), "{{gate}} admission, 95 %"),
                (_quantile(0.95, "concur_turn_wait_seconds"), "{{gate}} before a turn, 95 %"),
            ),
        ),
        Panel(
            "Waits on the server",
            "Means: in its queue, and to the first token.",
            "s",
            tuple(
                (
                    f"{_rate(f'{name}_sum', SERVER, 'instance')} / {_rate(f'{name}_count', SERVER, 'instance')}",
                    f"{{{{instance}}}} {what}",
                )
                for name, what in ((_QUEUED, "queue"), (_FIRST, "first token"))
            ),
        ),
    ),
    (
        Panel(
            "Turns and pauses",
            "Pauses as frequent as turns: the budget is narrow for agents of this size.",
            "cps",
            (
                (_rate("concur_turns_total", GATE, "gate"), "{{gate}} turns"),
                (_rate("concur_pauses_total", GATE, "gate"), "{{gate}} pauses"),
                (_rate("concur_agents_finished_total", GATE, "gate"), "{{gate}} agents finished"),
                (_rate("concur_decisions_total", GATE, "gate"), "{{gate}} decisions"),
            ),
        ),
        Panel(
            "Trouble",
            "Preempted requests read their whole context again. Refusals are 429 and 503.",
            "cps",
            (
                (_rate("vllm:num_preemptions_total", SERVER, "instance"), "{{instance}} preemptions"),
                (_rate("concur_refusals_total", GATE, "gate"), "{{gate}} refusals"),
                (_rate("concur_agents_gave_up_total", GATE, "gate"), "{{gate}} agents that gave up"),
                (f"1 - concur_server_metrics_up{GATE}", "{{gate}} without metrics"),
            ),
        ),
    ),
)


def dashboard() -> dict[str, object]:
    """The dashboard, as Grafana imports it."""
    panels = [
        _panel(panel, {"x": STAT_WIDTH * n, "y": 0, "w": STAT_WIDTH, "h": STAT_HEIGHT}, kind="stat")
        for n, panel in enumerate(STATS)
    ]
    for row, pair in enumerate(ROWS):
        for column, panel in enumerate(pair):
            at = {"x": WIDTH * column, "y": STAT_HEIGHT + HEIGHT * row, "w": WIDTH, "h": HEIGHT}
            panels.append(_panel(panel, at, kind="timeseries"))
    for number, made in enumerate(panels, 1):
        made["id"] = number
    return {
        "title": "concur-agents: gate and server",
        "description": "A gate of concur-agents on the left, its vLLM server on the right.",
        "uid": "concur-agents",
        "tags": ["concur-agents", "vllm", "llm"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,  # one cross-hair over all panels
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                _variable("gate", "Gate", "label_values(concur_agents_active, gate)"),
                _variable("server", "Server", "label_values(vllm:num_requests_running, instance)"),
            ]
        },
        "panels": panels,
    }


def _panel(panel: Panel, at: dict[str, int], *, kind: str) -> dict[str, object]:
    defaults: dict[str, object] = {"unit": panel.unit, "min": 0}
    if panel.highest is not None:
        defaults["max"] = panel.highest
    made: dict[str, object] = {
        "type": kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "gridPos": at,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": DATASOURCE, "expr": expression, "legendFormat": legend}
            for n, (expression, legend) in enumerate(panel.lines)
        ],
    }
    if kind == "stat":
        made["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none"}
    return made


def _variable(name: str, label: str, query: str) -> dict[str, object]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,  # whenever the time range changes
        "includeAll": True,
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
    print(TARGET)
