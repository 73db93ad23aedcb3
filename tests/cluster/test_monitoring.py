"""The alerts fire when they should, and every expression of the dashboard is one that Prometheus reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cluster.tools import run_tool

FOLDER = Path(__file__).resolve().parent.parent.parent / "cluster" / "monitoring"
NOT_OF_A_LAPTOP = {"ray_node_gpus_utilization"}


def expressions() -> Iterator[str]:
    """Of the dashboard, with values in the place of Grafana's variables."""
    for panel in json.loads((FOLDER / "grafana.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "1m").replace("$run", ".*")


def metrics_used() -> set[str]:
    """Names of all metrics in the dashboard and the rules."""
    text = " ".join(expressions()) + (FOLDER / "rules.yml").read_text()
    return set(re.findall(r"\bray_\w+", text)) - NOT_OF_A_LAPTOP


def test_alerts_fire_when_they_should() -> None:
    assert "SUCCESS: 4 rules found" in run_tool("promtool", "check", "rules", "rules.yml", folder=FOLDER)
    assert "SUCCESS" in run_tool("promtool", "test", "rules", "rules_test.yml", folder=FOLDER)


def test_every_expression_of_the_dashboard_is_valid(tmp_path: Path) -> None:
    found = list(expressions())
    assert len(found) >= 15
    rules: list[dict[str, Any]] = [{"record": f"check:panel_{number}", "expr": expression} for number, expression in enumerate(found)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    assert f"SUCCESS: {len(found)} rules found" in run_tool("promtool", "check", "rules", str(file))


def test_panels_do_not_overlap_and_have_a_unit() -> None:
    panels = json.loads((FOLDER / "grafana.json").read_text())["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels)
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in panels)
