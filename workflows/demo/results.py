"""The demo's results as tables and pictures; light to import, for a finished demo is shown at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors.storage import Folder
from genprm.errors import UserError
from genprm.records import SearchResult
from workflows.config import Config
from workflows.demo import oracle_tables
from workflows.report import Panel, Table, agreement_tables, choice_titles, critic_turns, score_table, search_tables, stage_table, text

RESULTS = "results.json"
PAPER_F1 = {("trained", "one_vote"): "75.2", ("trained", "votes"): "80.5", ("not-run", "votes"): "79.9"}
"""Average ProcessBench F1 of GenPRM-7B, from Tables 4 and 5, for the verifiers of the laptop preset."""
NOTE = (
    "The paper's figures are of models of 7B parameters on ProcessBench; ours of the tiny models and data named in the configuration. "
    "Compare trends, not heights."
)


def show(config: Config, run: Folder) -> None:
    """Print a finished demo's results; ValueError if it was made with other settings."""
    results = run.read_json(RESULTS)
    if results["identity"] != config.identity():
        raise UserError(f"--run-dir = {run.uri!r} holds a finished run with other settings; take another --run-dir (make demo NAME=other)")
    print(f"\n{text(tables(results))}\n\nfinished before; {NOTE}\n{where(config, run)}")


def tables(results: Mapping[str, Any]) -> list[Table]:
    found = [stage_table(results["stages"])]
    if results["oracle"] is not None:
        found += oracle_tables.tables(results["oracle"])
    for name, agreement in results["agreement"].items():
        found += agreement_tables(agreement, name)
    found.append(score_table(results["verifiers"], PAPER_F1))
    found += search_tables(results["search"], results["config"]["search"]["num_candidates"])
    return found


def panels(results: Mapping[str, Any]) -> list[Panel]:
    found = oracle_tables.panels(results["oracle"]) if results["oracle"] is not None else []
    f1 = {}
    for verifier, benchmarks in results["verifiers"].items():
        average, num_votes = benchmarks["average"], results["config"]["verifiers"][verifier]["num_votes"]
        f1[f"{verifier}, one vote"] = average["one_vote/f1"]
        if num_votes > 1:
            f1[f"{verifier}, {num_votes} votes"] = average["votes/f1"]
    found.append(Panel(title="First errors found: F1, %", values=f1))
    count = results["config"]["search"]["num_candidates"]
    for sets in results["search"].values():
        for name, values in sets.items():
            if values:
                solved = {title: values[key] for title, key in zip(choice_titles(count), SearchResult.CHOICES, strict=True)}
                found.append(Panel(title=f"{name}: solved, %", values=solved))
                turns = {str(turn): value for turn, value in enumerate(critic_turns(values))}
                found.append(Panel(title=f"{name}: solved after k rewrites with a critic, %", values=turns, line=True))
    return found


def where(config: Config, run: Folder) -> str:
    """Where a person finds what was made."""
    lines = [f"report:  {run.uri}/report.html", f"data:    {run.uri}"]
    tracking = config.tracking.uri_for(run)
    if tracking.startswith("sqlite:"):
        mlflow = os.path.relpath(Path(sys.executable).with_name("mlflow"))
        lines.append(f"mlflow:  {mlflow} ui --backend-store-uri {tracking}")
    elif tracking != "off":
        lines.append(f"mlflow:  {tracking}")
    return "\n".join(lines)
