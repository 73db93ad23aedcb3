"""Conversations to a trained GenPRM; see workflows/training.py."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from jobs import cli

if TYPE_CHECKING:
    from jobs.config import Config
    from workflows.stage.folder import Folder
    from workflows.stage.tracking import Tracker


def main() -> int:
    parser = cli.parser("train", "Train a generative process reward model on a run's conversations; export it for vLLM.")
    arguments = parser.parse_args()

    def execute(config: Config, run: Folder, tracker: Tracker) -> None:
        from workflows.stage.parts import DONE
        from workflows.demo.report import stage_table
        from workflows.training import export_folder, train

        if not (run / "conversations").exists(DONE):
            raise ValueError(f"--run-dir = {run.uri!r}: no finished conversations there; run python -m jobs.synthesize with it first")
        print(stage_table([train(run, config.train, conversations="conversations", tracker=tracker)]))
        print(f"model: {export_folder(run)}")

    return cli.main("train", arguments, ("train",), execute)


if __name__ == "__main__":
    sys.exit(main())
