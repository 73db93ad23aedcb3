"""Problems to training conversations; see workflows/synthesis.py."""

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

KINDS = ("problems", "rollouts", "solutions", "estimates", "prior", "labels", "rationales", "conversations")


def plan(config: Config, folder: Folder, arguments: argparse.Namespace) -> tuple[Sequence[Stage], Sequence[str] | None]:
    from workflows import synthesis

    stages = synthesis.stages(config, folder)
    until = arguments.until
    wanted = [stage.name for stage in stages if stage.name == until or stage.name.partition("/")[0] == until]
    if not wanted:
        raise UserError(f"--until {until!r}: this configuration has no such stage; it has {', '.join(stage.name for stage in stages)}")
    return stages, wanted


def report(_: Config, run: Run, summaries: Sequence[StageSummary]) -> None:
    from workflows.report import show_stages

    show_stages(run, summaries)


def main() -> int:
    parser = cli.add_stages(cli.parser("synthesize", "From problems to step-labelled, code-verified training conversations."))
    parser.add_argument(
        "--until",
        default=KINDS[-1],
        metavar="STAGE",
        help=f"make this and what it needs: {', '.join(KINDS)}, or one by its name, as labels/rpe (default: %(default)s)",
    )
    return cli.main(cli.Job(name="synthesize", plan=plan, report=report), cli.parse(parser))


if __name__ == "__main__":
    sys.exit(main())
