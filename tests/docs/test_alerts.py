"""The page of alerts lists those of the file in the package."""

from __future__ import annotations

import re
from importlib.resources import files

import yaml
from docs.pages import DOCS


def test_each_alert_of_the_file_is_explained_and_no_other():
    rules = yaml.safe_load((files("concur_agents.telemetry") / "grafana" / "alerts.yml").read_text(encoding="utf-8"))
    shipped = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    assert re.findall(r"^\| `(\w+)` \|", (DOCS / "alerts.md").read_text(encoding="utf-8"), re.MULTILINE) == shipped
