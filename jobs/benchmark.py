"""Speed, measured against the bare library in one run: ``python -m jobs.benchmark <name>``; the last line is JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import cli

if TYPE_CHECKING:
    from workflows.config import Config

INSTANT = "{{type='scripted',script='workflows.benchmarks.simulated:instant'}}"
SCALE_SETTINGS = (
    *(f"engines.{role}={INSTANT}" for role in ("policy", "completer", "rationale")),
    "problems.benchmarks=[]",
    "problems.limit=10000000",
    *(f"rollouts.{setting}" for setting in ("first_round=4", "max_paths=4", "keep_per_kind=1")),
    *(f"estimates.paper.{state}=2" for state in ("start", "hard", "middle", "easy")),
    "rationales.num_index_votes=1",
    "ray.num_cpus=6",
    *(f"pools.{stage}={{{{num_workers=1,rows_in_flight=512,commit_rows=1024}}}}" for stage in ("rollouts", "estimates", "rationales")),
)
OVERHEAD_SETTINGS = (
    *(f"rollouts.{setting}" for setting in ("first_round=8", "max_paths=8", "keep_per_kind=8")),
    *(f"estimates.paper.{state}=8" for state in ("start", "hard", "middle", "easy")),
    "rationales.num_index_votes=2",
    "ray.num_cpus=16",
    "executor={{num_executors=1,max_sessions=1200,spares=64}}",
    "pools.rollouts={{rows_in_flight=128}}",
    "pools.estimates={{rows_in_flight=128}}",
    "pools.rationales={{rows_in_flight=288}}",
)
WORLDS = ("one-drop", "drifting", "many-drops", "jumpy")


class Leaky(Exception):
    """A benchmark that found what must not be; its result is printed, and the exit status is 1."""

    def __init__(self, result: Mapping[str, object]) -> None:
        super().__init__()
        self.result = result


def engine(config: Config, _: Namespace) -> Mapping[str, object]:
    from workflows.benchmarks.engine import engine_benchmark

    with connected(config):
        return engine_benchmark(config)


def estimates(config: Config, _: Namespace) -> Mapping[str, object]:
    from workflows.benchmarks.estimates import estimates_benchmark

    with connected(config):
        return estimates_benchmark(config)


def rationales(config: Config, arguments: Namespace) -> Mapping[str, object]:
    from workflows.benchmarks.rationales import rationales_benchmark

    with connected(config):
        return rationales_benchmark(
            config,
            num_sequential=arguments.sequential,
            delay_s=arguments.delay,
            layers=arguments.layers,
            rounds=arguments.rounds,
            uncontained=arguments.uncontained,
        )


def votes(_: None, arguments: Namespace) -> Mapping[str, object]:
    from actors.storage import Folder
    from workflows.benchmarks.votes import votes_benchmark

    return votes_benchmark(Folder(arguments.run), arguments.stage, arguments.votes_at_a_time)


def executor(config: Config, arguments: Namespace) -> Mapping[str, object]:
    from workflows.benchmarks.executor import executor_benchmark

    return executor_benchmark(config.executor, arguments.sessions, lambda: connected(config))


def scale(config: Config, arguments: Namespace) -> Mapping[str, object]:
    import tempfile

    from workflows.benchmarks.free_port import free_port
    from workflows.benchmarks.s3_server import environment, serving
    from workflows.benchmarks.scale import requests_per_block, scale_benchmark

    port = free_port()
    os.environ |= environment(port)  # workers inherit it
    with serving(port) as server, connected(config), tempfile.TemporaryDirectory() as folder:
        found = scale_benchmark(config, Path(folder), arguments.problems, arguments.light)
        if arguments.stored:
            found["s3_requests_per_block"] = requests_per_block(config, server, Path(folder), arguments.stored)
        return found


def overhead(config: Config, arguments: Namespace) -> Mapping[str, object]:
    import tempfile

    from workflows.benchmarks.overhead import KEY, overhead_benchmark

    os.environ[KEY] = "none"  # workers inherit it
    with connected(config), tempfile.TemporaryDirectory() as folder:
        return overhead_benchmark(config, Path(folder), arguments.seconds, one_engine=arguments.one_engine)


def scaling(config: Config, arguments: Namespace) -> Mapping[str, object]:
    import tempfile

    from workflows.benchmarks.scaling import local_cluster, scaling_benchmark

    with local_cluster() as (cluster, nodes):
        placed = config.model_copy(update={"ray": config.ray.model_copy(update={"address": cluster.address})})
        with connected(placed), tempfile.TemporaryDirectory() as folder:
            return scaling_benchmark(placed, Path(folder), arguments.seconds, cluster, nodes)


def core_process(config: Config, arguments: Namespace) -> Mapping[str, object]:
    import tempfile

    from workflows.benchmarks.core_process import core_process_benchmark

    with connected(config), tempfile.TemporaryDirectory() as folder:
        return core_process_benchmark(config, Path(folder), arguments.seconds)


def soak(config: Config, arguments: Namespace) -> Mapping[str, object]:
    from actors.code_executor.containment import read_cases
    from workflows.benchmarks.soak import soak_benchmark

    cases = read_cases(Path(arguments.snippets)) if arguments.snippets else []
    with connected(config):
        tally = soak_benchmark(config.executor, cases, arguments.sessions, arguments.kill_every, config.seed)
    if tally.wrong or tally.left:
        raise Leaky(tally.row())
    return tally.row()


def monte_carlo(_: None, arguments: Namespace) -> Mapping[str, object]:
    from workflows.benchmarks.monte_carlo import monte_carlo_benchmark

    values, picture = (Path(file) if file else None for file in (arguments.values, arguments.plot))
    return monte_carlo_benchmark(range(arguments.seeds), picture, values=values, world=arguments.world)


def rollouts(_: None, arguments: Namespace) -> Mapping[str, object]:
    from workflows.benchmarks.rollouts import rollouts_benchmark

    return rollouts_benchmark(arguments.problems, arguments.seed)


def grading(config: Config, arguments: Namespace) -> Mapping[str, object]:
    from genprm.errors import UserError
    from workflows.benchmarks.grading import golds_benchmark, grading_benchmark, read_golds, read_solutions

    if not (arguments.solutions or arguments.golds):
        raise UserError("give --solutions, --golds, or both")
    found: dict[str, object] = {"benchmark": "grading"}
    if arguments.golds:
        found |= golds_benchmark(config.grading, read_golds([Path(file) for file in arguments.golds]), config.seed)
    if arguments.solutions:
        found |= grading_benchmark(config.grading, read_solutions(Path(arguments.solutions)))
    return found


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """``what`` is measured, in words that name its ``options`` (those of argparse, by flag); ``changes`` are the settings they make, where
    a configuration is read."""

    run: Callable[[Any, Namespace], Mapping[str, object]]
    help: str
    what: str
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    configured: bool = True


def number(default: int, text: str = "") -> dict[str, Any]:
    return {"type": int, "default": default, "metavar": "N", "help": f"{text} (default: %(default)s)".strip()}


BENCHMARKS = {
    "engine": Benchmark(
        run=engine,
        help="the rollouts stage against bare vLLM on the same prompts",
        what="{samples} paths of {problems} problems, through the stage and with bare vLLM",
        options={"--problems": number(200), "--samples": number(16, "paths a problem")},
        changes=("problems.limit={problems}", "rollouts.first_round={samples}", "rollouts.max_paths={samples}"),
    ),
    "estimates": Benchmark(
        run=estimates,
        help="the estimates stage against bare vLLM on the same requests",
        what="estimates of the solutions of {problems} problems, through the stage and with bare vLLM",
        options={"--problems": number(200)},
        changes=("problems.limit={problems}", "engines.completer.log_stats=true"),
    ),
    "rationales": Benchmark(
        run=rationales,
        help="the rationales stage against vLLM that never pauses, and against one conversation at a time",
        what="critiques of the solutions of {problems} problems: the stage, vLLM without pauses, vLLM asked the same with none between, "
        "the stage with code that takes {delay:g} s longer, and {sequential} critiques one at a time; {layers} times the model's layers",
        options={
            "--problems": number(200),
            "--sequential": number(40, "critiques written one at a time"),
            "--delay": {"type": float, "default": 1.0, "metavar": "SECONDS", "help": "added to every block (default: %(default)s)"},
            "--layers": number(1, "times as many layers, the text unchanged: a larger model's work for every token"),
            "--rounds": number(1, "times that each is measured, in turn; the fastest counts"),
            "--uncontained": {
                "action": "store_true",
                "help": "run the code of those written one at a time by exec, as the reference does; only for models that you trust",
            },
        },
        changes=(
            "problems.limit={problems}",
            "engines.rationale.log_stats=true",
            "engines.rationale.core_process=true",
            "pools.rationales.num_workers=1",
            "pools.rationales.rows_in_flight=512",
            "executor.max_sessions=512",
            "executor.spares=128",
        ),
    ),
    "votes": Benchmark(
        run=votes,
        configured=False,
        help="how many of its votes a verifier's decisions needed",
        what="the votes of {stage} in {run}, cast {votes_at_a_time} at a time until the decision is sure",
        options={
            "--run": {"default": "runs/laptop", "metavar": "DIR", "help": "a finished run (default: %(default)s)"},
            "--stage": {"required": True, "metavar": "STAGE", "help": "its evaluate stage: evaluate/VERIFIER/BENCHMARK"},
            "--votes-at-a-time": number(2),
        },
    ),
    "executor": Benchmark(
        run=executor,
        help="the code executor against fresh interpreters and against exec",
        what="{sessions} sessions for each rate, a fresh interpreter, and exec in this process",
        options={"--sessions": number(400, "for each rate")},
    ),
    "scale": Benchmark(
        run=scale,
        help="synthesis at scale with engines that answer at once: rows/s, the driver's memory, resume, files, requests to S3",
        what="synthesis of {problems} problems, light stages on {light} rows, and synthesis of {stored} problems in an object store (an S3 "
        "server on loopback), with engines that answer at once",
        options={
            "--problems": number(100_000),
            "--light": number(1_000_000, "rows of light stages (0: none)"),
            "--stored": number(10_000, "problems of a synthesis in an object store (0: none)"),
        },
        changes=SCALE_SETTINGS,
    ),
    "overhead": Benchmark(
        run=overhead,
        help="how much of an engine's time the stages use, with simulated GPUs; and rollouts over HTTP beside ray.data.llm",
        what="rollouts, estimates and rationales with 1 and 4 simulated engines, {seconds:g} s each",
        options={
            "--seconds": {"type": float, "default": 40.0, "metavar": "S", "help": "of each measurement (default: %(default)s)"},
            "--one-engine": {"action": "store_true", "help": "measure one engine alone; for longer stages"},
        },
        changes=OVERHEAD_SETTINGS,
    ),
    "scaling": Benchmark(
        run=scaling,
        help="rollouts on 1 to 8 simulated engines with a node each, and the loss of a node",
        what="rollouts on 1, 2, 4 and 8 nodes of one simulated engine each, {seconds:g} s each; one node lost on the way",
        options={"--seconds": {"type": float, "default": 45.0, "metavar": "S", "help": "of each measurement (default: %(default)s)"}},
        changes=OVERHEAD_SETTINGS,
    ),
    "core-process": Benchmark(
        run=core_process,
        help="what a process of its own is worth to vLLM's core, with a simulated model that takes a GPU's time",
        what="rollouts, estimates and rationales, vLLM's core in the worker's process and in its own, {seconds:g} s each",
        options={"--seconds": {"type": float, "default": 40.0, "metavar": "S", "help": "of each measurement (default: %(default)s)"}},
        changes=OVERHEAD_SETTINGS,
    ),
    "soak": Benchmark(
        run=soak,
        help="many sessions of the executors, some hostile, while executors are killed",
        what="{sessions} sessions, a kill about every {kill_every:g} s, for wrong outputs and leaks",
        options={
            "--sessions": number(20_000),
            "--snippets": {"metavar": "FILE", "help": "hostile snippets, for one session in ten"},
            "--kill-every": {"type": float, "default": 10.0, "metavar": "SECONDS", "help": "0: kill nothing (default: %(default)s)"},
        },
    ),
    "monte-carlo": Benchmark(
        run=monte_carlo,
        configured=False,
        help="what estimators of step values cost and find, on stored true values",
        what="estimators at several budgets, {seeds} times each, on known values",
        options={
            "--seeds": number(5, "repetitions of each"),
            "--values": {
                "metavar": "FILE",
                "help": "a Parquet file of estimates with very many completions, whose values are taken as true",
            },
            "--world": {"choices": WORLDS, "default": WORLDS[0], "help": "without --values: made-up ones (default: %(default)s)"},
            "--plot": {"metavar": "FILE", "help": "draw the curves and the calibration, too"},
        },
    ),
    "rollouts": Benchmark(
        run=rollouts,
        configured=False,
        help="what giving up problems saves and loses, on simulated policies",
        what="rollouts of {problems} problems by simulated policies, with the paper's rounds and with problems given up",
        options={"--problems": number(2000), "--seed": number(0)},
    ),
    "grading": Benchmark(
        run=grading,
        help="answers a second on real solutions, and how many are judged as recorded; references in other spellings, and changed",
        what="the solutions of {solutions}, through the grader and with plain math-verify; the references of {golds}, spelled otherwise "
        "and with a digit or sign changed",
        options={
            "--solutions": {"metavar": "FILE", "help": "JSONL of gt (reference), code and score (of each solution)"},
            "--golds": {"metavar": "FILE", "nargs": "+", "help": "JSONL of problems with answer (MATH, GSM8K)"},
        },
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.benchmark", description="Measure a part against the bare library; ends with one JSON line."
    )
    names = parser.add_subparsers(dest="name", required=True)
    for name, benchmark in BENCHMARKS.items():
        own = names.add_parser(name, help=benchmark.help)
        for flag, option in benchmark.options.items():
            own.add_argument(flag, **option)
        if benchmark.configured:
            cli.add_config(own)
        own.add_argument("--dry-run", action="store_true", help="say what would be measured, and stop")
    arguments = cli.parse(parser)
    benchmark = BENCHMARKS[arguments.name]
    if arguments.dry_run:
        print(f"would measure {benchmark.what.format(**vars(arguments))}")
        return 0

    from actors.storage import Folder
    from jobs.config import load

    status = 0
    try:
        config = None
        if benchmark.configured:
            changes = [*(change.format(**vars(arguments)) for change in benchmark.changes), *arguments.set, "tracking.uri=off"]
            config = load(arguments.config, changes, Folder("unused"))
        result = benchmark.run(config, arguments)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Leaky as found:
        result, status = found.result, 1
    print(json.dumps(result), flush=True)  # after Ray's last word, so that it is the last line
    return status


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
