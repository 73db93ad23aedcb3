"""A ProcessBench file judged by a verifier; see workflows/evaluation.py."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from jobs import cli

if TYPE_CHECKING:
    from jobs.config import Config
    from workflows.stage.folder import Folder
    from workflows.stage.tracking import Tracker


def main() -> int:
    parser = cli.parser("evaluate", "Judge every step of a ProcessBench file and score the first errors found.")
    arguments = parser.parse_args()

    def execute(config: Config, run: Folder, tracker: Tracker) -> None:
        from jobs.settings import evaluation_settings
        from workflows.evaluation import evaluate, read_benchmark_stage, scores
        from workflows.demo.report import stage_table

        settings = evaluation_settings(config)
        print(stage_table([read_benchmark_stage(run, config.evaluate, tracker), evaluate(run, settings, tracker)]))
        print(json.dumps(scores(run), indent=2))

    return cli.main("evaluate", arguments, ("benchmark", "evaluate"), execute)


if __name__ == "__main__":
    sys.exit(main())
