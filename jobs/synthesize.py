"""Problems to training conversations; see workflows/synthesis.py."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from jobs import cli

if TYPE_CHECKING:
    from jobs.config import Config
    from workflows.stage.folder import Folder
    from workflows.stage.tracking import Tracker

STAGES = ("problems", "rollouts", "solutions", "estimates", "prior", "labels", "rationales", "conversations")


def main() -> int:
    parser = cli.parser("synthesize", "From problems to step-labelled, code-verified training conversations.")
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="the last stage to run (default: %(default)s)")
    arguments = parser.parse_args()

    def execute(config: Config, run: Folder, tracker: Tracker) -> None:
        from jobs.settings import synthesis_settings
        from workflows.demo.report import stage_table
        from workflows.synthesis import synthesize

        summaries = synthesize(run, synthesis_settings(config), tracker, until=arguments.until)
        print(stage_table(summaries))
        print(f"data: {run.uri}")

    plan = STAGES[: STAGES.index(arguments.until) + 1]
    return cli.main("synthesize", arguments, plan, execute)


if __name__ == "__main__":
    sys.exit(main())
