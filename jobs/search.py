"""Best-of-N and critic with trained verifiers; see workflows/search.py."""

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
    from workflows import search

    if not config.search_problems:
        raise UserError("search_problems: there is no table [search_problems.NAME] in the configuration; give one with a path")
    return search.stages(config, folder), None


def report(config: Config, run: Run, summaries: Sequence[StageSummary]) -> None:
    from workflows.report import search_tables, show_stages
    from workflows.search import report_scores

    show_stages(run, summaries)
    table = report_scores(config, run)
    run.terminal.result("\n\n".join(item.text() for item in search_tables(table, config.search.num_candidates)), scores=table)


def main() -> int:
    parser = cli.add_stages(cli.parser("search", "Best-of-N against majority voting and pass@N, and the critic's rewrites."))
    return cli.main(cli.Job(name="search", plan=plan, report=report), cli.parse(parser))


if __name__ == "__main__":
    sys.exit(main())
