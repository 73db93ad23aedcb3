"""The whole loop with tiny models, then a report; see workflows/demo/flow.py."""

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
    from workflows.stages import every_stage

    return every_stage(config, folder), None


def report(config: Config, run: Run, summaries: Sequence[StageSummary]) -> None:
    from workflows.demo import flow

    flow.report(config, run, summaries)


def main() -> int:
    arguments = cli.parse(cli.add_stages(cli.parser("demo", "The whole loop: synthesis, training, evaluation, search, report.")))
    if not arguments.dry_run:
        from actors.storage import Folder
        from jobs.config import load

        try:
            folder = Folder(cli.run_folder(arguments))
        except UserError as error:
            return cli.mistake(error)
        if arguments.retry:
            folder.delete("results.json")
        elif folder.exists("results.json"):
            from workflows.demo.results import show

            try:
                config = load(arguments.config, cli.changes(arguments), folder)
                show(config, folder)
            except UserError as error:
                return cli.mistake(error)
            return 0
    return cli.main(cli.Job(name="demo", plan=plan, report=report), arguments)


if __name__ == "__main__":
    sys.exit(main())
