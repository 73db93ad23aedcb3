"""Everything in order on one machine, then a table: synthesis, training, evaluation, search."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jobs import cli

if TYPE_CHECKING:
    from jobs.config import Config
    from workflows.stage.folder import Folder
    from workflows.stage.tracking import Tracker

PLAN = (
    "problems", "rollouts", "solutions", "estimates", "prior", "labels", "rationales", "conversations", "estimates_other", "train",
    "benchmark", "evaluate_base", "evaluate", "evaluate_not_run", "search_problems", "search", "report",
)  # fmt: skip


def main() -> int:
    parser = cli.parser("demo", "The whole loop: synthesis, training, evaluation, search, report.")
    arguments = parser.parse_args()
    if not arguments.dry_run:
        from jobs.config import load
        from workflows.stage.folder import Folder

        run = Folder(cli.run_folder(arguments))
        if run.exists("results.json"):
            try:
                config = load(arguments.config, arguments.set, run)
            except ValueError as error:
                return cli.mistake(error)
            return show_finished(config, run)
    return cli.main("demo", arguments, PLAN, execute)


def show_finished(config: Config, run: Folder) -> int:
    """A run that has its results is only shown, unless it was made with another configuration."""
    from workflows.demo.report import results_text

    results = run.read_json("results.json")
    if results["config"] != config.model_dump(mode="json"):
        print(
            f"error: --run-dir = {run.uri!r} holds a finished run with other settings; take another --run-dir (make demo NAME=other)",
            file=sys.stderr,
        )
        return 2
    print(results_text(results))
    print(f"finished before: {run.uri}")
    _say_where(config, run)
    return 0


def execute(config: Config, run: Folder, tracker: Tracker) -> None:
    from genprm.toy import truth
    from jobs.settings import evaluation_settings, search_settings, synthesis_settings
    from workflows import evaluation, search
    from workflows.stage.parts import read_rows
    from workflows.demo.report import results_text, summary_rows, write_report
    from workflows.stage.running import run_stage
    from workflows.synthesis import consensus_agreement, estimates_stage, synthesize
    from workflows.training import train

    began = time.monotonic()
    summaries = synthesize(run, synthesis_settings(config), tracker)
    other = config.demo.estimates
    if other is not None:
        settings = replace(synthesis_settings(config), estimates=other)
        summaries.append(run_stage(estimates_stage(settings, "estimates_other"), run, tracker))
    summaries.append(train(run, config.train, conversations="conversations", tracker=tracker))

    single = config.verifier.model_copy(update={"num_votes": 1})
    not_run = config.verifier.model_copy(update={"run_code": False})
    base = config.engines.verifier.model_copy(update={"model": config.train.base_model})
    runs = {
        "evaluate_base": evaluation_settings(config, engine=base, verifier=single),
        "evaluate": evaluation_settings(config),
        "evaluate_not_run": evaluation_settings(config, verifier=not_run),
    }
    summaries.append(evaluation.read_benchmark_stage(run, config.evaluate, tracker))
    summaries += [evaluation.evaluate(run, settings, tracker, name=name) for name, settings in runs.items()]
    summaries += search.search(run, search_settings(config), tracker)

    labelled = read_rows(run, "labels")
    known = truth.knows(labelled)  # of other problems nobody knows which step is the first wrong one
    results = {
        "config": config.model_dump(mode="json"),
        "stages": summary_rows(summaries),
        "labels": truth.label_quality(labelled) if known else None,
        "other_labels": truth.label_quality(read_rows(run, "estimates_other")) if known and other is not None else None,
        "consensus": truth.consensus_quality(labelled, read_rows(run, "rationales"), read_rows(run, "conversations")) if known else None,
        "agreement": asdict(consensus_agreement(run)),
        "verifier": {name: evaluation.scores(run, name) for name in runs},
        "search": search.scores(run),
        "num_votes": config.verifier.num_votes,
        "num_candidates": config.search.num_candidates,
        "seconds": time.monotonic() - began,
    }
    write_report(run, results)
    run.write_json("results.json", results)
    tracker.results(results)
    print(results_text(results))
    _say_where(config, run)


def _say_where(config: Config, run: Folder) -> None:
    print(f"report:  {run.uri}/report.html")
    print(f"data:    {run.uri}")
    if config.tracking.uri.startswith("sqlite:"):
        mlflow = os.path.relpath(Path(sys.executable).with_name("mlflow"))
        print(f"mlflow:  {mlflow} ui --backend-store-uri {config.tracking.uri}")
    elif config.tracking.uri != "off":
        print(f"mlflow:  {config.tracking.uri}")


if __name__ == "__main__":
    sys.exit(main())
