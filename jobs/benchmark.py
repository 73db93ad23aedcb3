"""Speed, measured against the bare library in one run: ``python -m jobs.benchmark <name>``; the last line is JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.config import Config

TOY_PROBLEMS = "problems.path=genprm/toy/data/synthesis.jsonl"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.benchmark", description="Measure a part against the bare library; ends with one JSON line."
    )
    names = parser.add_subparsers(dest="name", required=True)
    engine = names.add_parser("engine", help="the rollouts stage against bare vLLM on the same prompts")
    engine.add_argument("--problems", type=int, default=200, metavar="N", help="(default: %(default)s)")
    engine.add_argument("--samples", type=int, default=16, metavar="N", help="paths a problem (default: %(default)s)")
    estimates = names.add_parser("estimates", help="the estimates stage against bare vLLM on the same requests")
    estimates.add_argument("--problems", type=int, default=200, metavar="N", help="(default: %(default)s)")
    executor = names.add_parser("executor", help="the code executor against fresh interpreters and against exec")
    executor.add_argument("--sessions", type=int, default=400, metavar="N", help="for each rate (default: %(default)s)")
    soak = names.add_parser("soak", help="many sessions of the executors, some hostile, while executors are killed")
    soak.add_argument("--sessions", type=int, default=20_000, metavar="N", help="(default: %(default)s)")
    soak.add_argument("--snippets", metavar="FILE", help="hostile snippets, for one session in ten")
    soak.add_argument("--kill-every", type=float, default=10.0, metavar="SECONDS", help="0: kill nothing (default: %(default)s)")
    estimators = names.add_parser("monte-carlo", help="what estimators of step values cost and find, on stored true values")
    estimators.add_argument("--seeds", type=int, default=5, metavar="N", help="repetitions of each (default: %(default)s)")
    worlds = ("arithmetic", "one-drop", "drifting", "many-drops", "jumpy")
    estimators.add_argument("--world", choices=worlds, default="arithmetic", help="stored values, or made-up ones (default: %(default)s)")
    estimators.add_argument("--plot", metavar="FILE", help="draw the curves and the calibration, too")
    grading = names.add_parser("grading", help="answers a second on real solutions, and how many are judged as recorded")
    grading.add_argument("--solutions", required=True, metavar="FILE", help="JSONL of gt (reference), code and score (of each solution)")
    for one in (engine, estimates, executor, soak, estimators, grading):
        one.add_argument("--config", default="jobs/presets/laptop.toml", metavar="FILE", help="(default: %(default)s)")
        one.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one setting; repeatable")
        one.add_argument("--dry-run", action="store_true", help="say what would be measured, and stop")
    arguments = parser.parse_args()

    changes = [TOY_PROBLEMS, *arguments.set, "tracking.uri=off"]
    if arguments.name == "engine":
        what = f"{arguments.samples} paths of {arguments.problems} problems, through the stage and with bare vLLM"
        changes += [f"problems.limit={arguments.problems}"]
        changes += [f"rollouts.{name}={arguments.samples}" for name in ("first_round", "max_paths")]
    elif arguments.name == "estimates":
        what = f"estimates of the solutions of {arguments.problems} problems, through the stage and with bare vLLM"
        changes += [f"problems.limit={arguments.problems}"]
    elif arguments.name == "soak":
        what = f"{arguments.sessions} sessions, a kill about every {arguments.kill_every:g} s, for wrong outputs and leaks"
    elif arguments.name == "monte-carlo":
        what = f"estimators at several budgets, {arguments.seeds} times each, on stored true values"
    elif arguments.name == "grading":
        what = f"the solutions of {arguments.solutions}, through the grader and with plain math-verify"
    else:
        what = f"{arguments.sessions} sessions for each rate, a fresh interpreter, and exec in this process"
    if arguments.dry_run:
        print(f"would measure {what}")
        return 0

    from jobs.config import load
    from workflows.storage import Folder

    failed = False
    try:
        config = load(arguments.config, changes, Folder("unused"))
        if arguments.name == "engine":
            from jobs.settings import synthesis_settings
            from workflows.benchmarks.engine import engine_benchmark

            with connected(config):
                result = engine_benchmark(synthesis_settings(config))
        elif arguments.name == "estimates":
            from jobs.settings import synthesis_settings
            from workflows.benchmarks.estimates import estimates_benchmark

            with connected(config):
                result = estimates_benchmark(synthesis_settings(config))
        elif arguments.name == "monte-carlo":
            from workflows.benchmarks.monte_carlo import monte_carlo_benchmark

            picture = Path(arguments.plot) if arguments.plot else None
            result = monte_carlo_benchmark(range(arguments.seeds), picture, arguments.world)
        elif arguments.name == "grading":
            from workflows.benchmarks.grading import grading_benchmark, read_solutions

            result = grading_benchmark(config.grading, read_solutions(Path(arguments.solutions)))
        elif arguments.name == "soak":
            from actors.code_executor.containment import read_cases
            from workflows.benchmarks.soak import soak_benchmark

            cases = read_cases(Path(arguments.snippets)) if arguments.snippets else []
            with connected(config):
                tally = soak_benchmark(config.executor, cases, arguments.sessions, arguments.kill_every, config.seed)
            result, failed = tally.row(), bool(tally.wrong or tally.left)
        else:
            from workflows.benchmarks.executor import executor_benchmark

            result = executor_benchmark(config.executor, arguments.sessions, lambda: connected(config))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result), flush=True)  # after Ray's last word, so that it is the last line
    return 1 if failed else 0


@contextlib.contextmanager
def connected(config: Config) -> Iterator[None]:
    """Ray, for as long as it is needed."""
    from cluster.session import connect, disconnect

    connect(config.ray)
    try:
        yield
    finally:
        disconnect()


if __name__ == "__main__":
    sys.exit(main())
