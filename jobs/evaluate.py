"""Benchmarks judged by verifiers; see workflows/evaluation.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from genprm.errors import UserError
from jobs import cli

if TYPE_CHECKING:
    from actors.storage import Folder
    from workflows.config import Config
    from workflows.stage.run import Run
    from workflows.stage.stage import Stage
    from workflows.stage.summary import StageSummary


def plan(config: Config, folder: Folder, _: argparse.Namespace) -> tuple[Sequence[Stage], Sequence[str] | None]:
    from workflows import evaluation

    if not config.benchmarks:
        raise UserError("benchmarks: there is no table [benchmarks.NAME] in the configuration; give one with a path")
    return evaluation.stages(config, folder), None


def report(config: Config, run: Run, summaries: Sequence[StageSummary]) -> None:
    from workflows.evaluation import report_scores
    from workflows.report import score_table, show_stages

    show_stages(run, summaries)
    table = report_scores(config, run)
    run.terminal.result(score_table(table).text(), scores=table)


def main() -> int:
    parser = cli.add_stages(cli.parser("evaluate", "Judge every step of the benchmarks and score the first errors found."))
    return cli.main(cli.Job(name="evaluate", plan=plan, report=report), cli.parse(parser))


if __name__ == "__main__":
    sys.exit(main())
