"""The alerts fire when they should, and every expression of the dashboard is one that Prometheus reads."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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


def promtool(*arguments: str) -> str:
    """Its output; the test is skipped where it is not installed."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run([program, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_alerts_fire_when_they_should() -> None:
    assert "SUCCESS: 4 rules found" in promtool("check", "rules", "rules.yml")
    assert "SUCCESS" in promtool("test", "rules", "rules_test.yml")


def test_every_expression_of_the_dashboard_is_valid(tmp_path: Path) -> None:
    found = list(expressions())
    assert len(found) >= 15
    rules: list[dict[str, Any]] = [{"record": f"check:panel_{number}", "expr": expression} for number, expression in enumerate(found)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    assert f"SUCCESS: {len(found)} rules found" in promtool("check", "rules", str(file))


def test_panels_do_not_overlap_and_have_a_unit() -> None:
    panels = json.loads((FOLDER / "grafana.json").read_text())["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels)
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in panels)
