"""Conversations to trained models; see workflows/training.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs import cli

if TYPE_CHECKING:
    from actors.storage import Folder
    from workflows.config import Config
    from workflows.stage.run import Run
    from workflows.stage.stage import Stage
    from workflows.stage.summary import StageSummary


def plan(config: Config, _: Folder, __: argparse.Namespace) -> tuple[Sequence[Stage], Sequence[str] | None]:
    from workflows import training

    return training.stages(config), None


def report(config: Config, run: Run, summaries: Sequence[StageSummary]) -> None:
    from workflows.report import show_stages
    from workflows.training import export_folder

    show_stages(run, summaries)
    for name in config.models:
        folder = export_folder(run.folder, name).uri
        run.terminal.result(f"model {name}: {folder}", model=name, folder=folder)


def main() -> int:
    parser = cli.add_stages(cli.parser("train", "Train generative process reward models on a run's conversations; export them for vLLM."))
    return cli.main(cli.Job(name="train", plan=plan, report=report), cli.parse(parser))


if __name__ == "__main__":
    sys.exit(main())
