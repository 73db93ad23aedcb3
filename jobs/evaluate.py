"""A ProcessBench file judged by a verifier; see workflows/evaluation.py."""

from __future__ import annotations

import json
import sys

from jobs import cli


def main() -> int:
    parser = cli.parser("evaluate", "Judge every step of a ProcessBench file and score the first errors found.")
    arguments = parser.parse_args()

    def execute(config, run, tracker):  # type: ignore[no-untyped-def]
        from jobs.settings import evaluation_settings
        from workflows.evaluation import evaluate, scores
        from workflows.report import stage_table

        print(stage_table(evaluate(run, evaluation_settings(config), tracker)))
        print(json.dumps(scores(run), indent=2))

    return cli.main("evaluate", arguments, ("benchmark", "evaluate"), execute)


if __name__ == "__main__":
    sys.exit(main())
