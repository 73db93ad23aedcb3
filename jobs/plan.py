"""What a run will cost, before it is made; see workflows/planning."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from genprm.errors import UserError
from jobs import cli

if TYPE_CHECKING:
    from actors.storage import Folder


def main() -> int:
    parser = cli.parser("plan", "Rows, tokens, GPU hours, time and money of each stage, with every assumption. Nothing is run.")
    parser.add_argument("--prices", metavar="FILE", help="TOML with gpu_hour, cpu_hour, currency, ... (docs/cost.md)")
    parser.add_argument("--gpu", default="H100", metavar="CARD", help="the card that throughput is computed for (default: %(default)s)")
    parser.add_argument("--assume", action="append", default=[], metavar="NAME=VALUE", help="change an assumption; repeatable")
    parser.add_argument("--from", dest="measured", metavar="RUN", help="a run's directory: its means a row take the place of assumptions")
    parser.add_argument(
        "--sample",
        type=int,
        metavar="N",
        help="first make the training data of N problems (into --run-dir with -sample-N), then plan from that run",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    arguments = cli.parse(parser)
    from actors.storage import Folder
    from jobs.config import load
    from workflows.planning import forecast
    from workflows.planning.assumptions import assumptions
    from workflows.planning.hardware import GPUS
    from workflows.planning.prices import read_prices

    try:
        folder = Folder(cli.run_folder(arguments))
        config = load(arguments.config, arguments.set, folder)
        assumed = assumptions(arguments.assume)
        prices = read_prices(arguments.prices) if arguments.prices else None
        if arguments.gpu not in GPUS:
            raise UserError(f"--gpu = {arguments.gpu!r}: give one of {', '.join(GPUS)}")
        if arguments.sample is not None:
            arguments.measured = sample(arguments.config, arguments.set, arguments.sample, folder)
        measured = {} if arguments.measured is None else forecast.measured_stages(config, Folder(_place(arguments.measured)))
        given = any(change.startswith("problems=") for change in arguments.assume)
        planner = forecast.Planner(
            config=config,
            assumed=assumed,
            gpu=GPUS[arguments.gpu],
            measured=measured,
            problems=None if given else forecast.num_problems(config),
        )
        stages = planner.stages()
    except UserError as error:
        return cli.mistake(error)
    if arguments.json:
        print(json.dumps({"stages": [asdict(stage) for stage in stages], "assumptions": {name: asdict(a) for name, a in assumed.items()}}))
        return 0
    print(forecast.table(stages, prices).text())
    print(f"\nThroughput: {arguments.gpu}; --from RUN or --sample N measures instead.\nAssumptions (--assume name=value):")
    for name, assumption in assumed.items():
        print(f"  {name} = {assumption.value:g}: {assumption.source}")
    if planner.problems is not None:
        print(f"  problems = {planner.problems:,}: rows of problems.path, in place of the assumption")
    return 0


def sample(config: str, changes: list[str], number: int, folder: Folder) -> str:
    """Run synthesis on so many problems, as a job of its own; the run's directory."""
    place = f"{folder.uri}-sample-{number}"
    settings = [item for change in [*changes, f"problems.limit={number}"] for item in ("--set", change)]
    done = subprocess.run(
        [sys.executable, "-m", "jobs.synthesize", "--config", config, *settings, "--run-dir", place], stdout=sys.stderr, check=False
    )
    if done.returncode:
        raise UserError(f"--sample {number}: the run in {place} ended with status {done.returncode}; the same command resumes it")
    return place


def _place(run: str) -> str:
    return run if "://" in run else str(Path(run).absolute())


if __name__ == "__main__":
    sys.exit(main())
