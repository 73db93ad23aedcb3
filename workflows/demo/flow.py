"""The whole loop on one machine, then a report: what the paper's claims come to where every step's truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from actors.storage import Folder
from workflows import evaluation, search, synthesis
from workflows.config import Config
from workflows.demo import oracle_tables
from workflows.demo.results import NOTE, RESULTS, panels, tables, where
from workflows.report import summary_rows, text, write_report
from workflows.stage.parts import read_rows
from workflows.stage.run import Run
from workflows.stage.summary import StageSummary


def report(config: Config, run: Run, summaries: Sequence[StageSummary]) -> None:
    """Measure, write ``results.json``, ``report.html`` and ``report.png``, show the tables."""
    results = measure(config, run, summaries)
    write_report(run.folder, "GenPRM run", tables(results), panels(results), NOTE)
    run.folder.write_json(RESULTS, results)
    run.tracker.results(results)
    run.terminal.result(f"\n{text(tables(results))}\n\n{where(config, run.folder)}", **results)


def measure(config: Config, run: Run, summaries: Sequence[StageSummary]) -> dict[str, Any]:
    """All results as plain values; ``oracle`` is None where problems are not of the arithmetic world."""
    return {
        "config": config.model_dump(mode="json"),
        "identity": config.identity(),
        "stages": summary_rows(summaries),
        "agreement": {name: asdict(synthesis.consensus_agreement(run.folder, config, name)) for name in config.conversations},
        "oracle": oracle(config, run.folder),
        "verifiers": evaluation.report_scores(config, run),
        "search": search.report_scores(config, run),
        "seconds": sum(summary.seconds for summary in summaries),
    }


def oracle(config: Config, run: Folder) -> dict[str, Any] | None:
    solutions = read_rows(run, "solutions")
    if not oracle_tables.knows(solutions):
        return None
    critiques = read_rows(run, "rationales")
    return {
        "labels": {name: oracle_tables.label_quality(read_rows(run, f"estimates/{name}")) for name in config.estimates},
        "consensus": {
            name: oracle_tables.consensus_quality(
                read_rows(run, f"labels/{conversations.labels}"), critiques, read_rows(run, f"conversations/{name}")
            )
            for name, conversations in config.conversations.items()
        },
    }
