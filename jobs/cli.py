"""What every job's command line has in common; imports nothing heavy before the arguments are read."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.submission import check_environment, check_place
from genprm.errors import UserError

if TYPE_CHECKING:
    from actors.storage import Folder
    from genprm.errors import UserError
    from workflows.config import Config
    from workflows.stage.run import Run
    from workflows.stage.stage import Stage
    from workflows.stage.summary import StageSummary

PRESETS = Path(__file__).with_name("presets")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job that brings stages to their end: ``plan(config, run directory, arguments)`` gives the stages and the names of those that are
    wanted (None: all), ``report`` shows results when they are finished."""

    name: str
    plan: Callable[[Config, Folder, argparse.Namespace], tuple[Sequence[Stage], Sequence[str] | None]]
    report: Callable[[Config, Run, Sequence[StageSummary]], None]


def parser(job: str, description: str, *, run_dir: str = "runs/<name of the config>") -> argparse.ArgumentParser:
    """The arguments of every job."""
    arguments = argparse.ArgumentParser(prog=f"python -m jobs.{job}", description=description)
    add_config(arguments)
    arguments.add_argument("--run-dir", metavar="DIR", help=f"where the run's data go, and what it resumes from (default: {run_dir})")
    arguments.add_argument("--dry-run", action="store_true", help="print the resolved configuration and what would be run, and stop")
    return arguments


def add_config(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument("--config", metavar="FILE", help=f"TOML configuration (required); presets: {', '.join(presets())}")
    arguments.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change one setting; VALUE as in TOML, bare words are text; repeatable",
    )


def add_stages(arguments: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The arguments of jobs that run stages."""
    arguments.add_argument(
        "--from",
        dest="reuse",
        action="append",
        default=[],
        metavar="RUN:STAGE",
        help="read a stage from another run's directory instead of making it; repeatable",
    )
    arguments.add_argument(
        "--retry",
        action="append",
        default=[],
        metavar="STAGE[:REASON]",
        help="process rejected rows of a stage again, those whose reason begins so, and then what depends on them; repeatable",
    )
    arguments.add_argument(
        "--allow-other-versions", action="store_true", help="resume a stage though libraries that decide its results have other versions"
    )
    shown = arguments.add_mutually_exclusive_group()
    shown.add_argument("--quiet", action="store_const", dest="mode", const="quiet", help="show results and warnings only")
    shown.add_argument(
        "--json", action="store_const", dest="mode", const="json", help="show progress and results as JSON, one object a line"
    )
    return arguments


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments; without ``--config`` an error that names the presets."""
    arguments = parser.parse_args()
    if getattr(arguments, "config", "") is None:
        parser.error(f"--config is missing: give a TOML file, your own or a preset ({', '.join(presets())})")
    return arguments


def presets() -> list[str]:
    return sorted(f"jobs/presets/{file.name}" for file in PRESETS.glob("*.toml"))


def run_folder(arguments: argparse.Namespace) -> str:
    """The run directory's URI; a local one is made absolute, so that it stays where it is for every process."""
    run_dir = arguments.run_dir or f"runs/{Path(arguments.config).stem}"
    if not arguments.dry_run:
        check_place(run_dir, "--run-dir", os.environ)
    return run_dir if "://" in run_dir else str(Path(run_dir).absolute())


def changes(arguments: argparse.Namespace) -> list[str]:
    """``--set`` as given, ``--from RUN:STAGE`` as the settings that it stands for."""
    found = list(arguments.set)
    for reference in getattr(arguments, "reuse", []):
        run, colon, stage = reference.rpartition(":")
        if not colon or not stage or stage.startswith("//"):
            raise UserError(f"--from {reference!r}: write it as RUN:STAGE, the directory of a run and the name of a stage")
        found.append(f"reuse.{stage}={json.dumps(run)}")  # a JSON text is a TOML text
    return found


def main(job: Job, arguments: argparse.Namespace) -> int:
    """Load the configuration, connect, run; returns the exit status: 2 for a user's mistake, 1 for a failure, 130 on Ctrl-C, 143 on
    SIGTERM. An error that was not made for users keeps its traceback."""
    from actors.storage import Folder
    from genprm.errors import UserError
    from jobs.config import load, resolved

    try:
        check_environment(os.environ)
        folder = Folder(run_folder(arguments))
        config = load(arguments.config, changes(arguments), folder)
        if (config.tracking.uri or "").startswith("sqlite:///"):
            check_place(str(config.tracking.uri).removeprefix("sqlite:///"), "tracking.uri", os.environ)
        if arguments.dry_run:
            stages, wanted = job.plan(config, folder, arguments)
            print(resolved(config))
            print(f"would run, in {folder.uri}: {' -> '.join(_needed_names(config, folder, stages, wanted))}")
            return 0
        folder.create()
    except UserError as error:
        return mistake(error)
    from cluster import interrupts
    from workflows.stage.errors import StageFailed

    with contextlib.ExitStack() as held:
        try:
            return _run(job, config, folder, arguments, held)
        except UserError as error:
            held.close()
            return mistake(error)
        except KeyboardInterrupt:
            held.close()
            print("interrupted; the same command resumes from here", file=sys.stderr)
            return interrupts.exit_status()
        except StageFailed as error:
            traceback.print_exc()  # into the log, with what led to it
            held.close()
            print(f"error: {error}", file=sys.stderr)
            return 1
        except Exception:
            held.close()
            traceback.print_exc()
            return 1


def _run(job: Job, config: Config, folder: Folder, arguments: argparse.Namespace, held: contextlib.ExitStack) -> int:
    """Everything that is held (log, lock, Ray, tracking) is given back by ``held``."""
    from jobs.config import resolved
    from workflows.stage.links import source
    from workflows.stage.lock import locked
    from workflows.stage.logs import captured
    from workflows.stage.run import Run
    from workflows.stage.terminal import Mode, Terminal
    from workflows.stage.tracking import Tracker
    from workflows.synthesis import TOP_UP, top_ups

    held.enter_context(locked(folder))
    stages, wanted = job.plan(config, folder, arguments)
    reuse = {stage: source(reference, stage, f"reuse.{stage}") for stage, reference in config.reuse.items()}
    if any(read.startswith(TOP_UP) for stage in stages for read in stage.reads):
        reuse |= top_ups(config)
    from workflows.stage.graph import check, needed, run_stages
    from workflows.stage.retry import retry, stage_and_reason

    quiet = Run.untracked(folder, reuse=reuse, other_versions=arguments.allow_other_versions)
    retries = [stage_and_reason(reference, stages) for reference in arguments.retry]
    todo = needed(stages, wanted, quiet)
    check(todo, quiet)
    retried = [retry(stages, stage, reason, quiet) for stage, reason in retries]

    mode: Mode = arguments.mode or ("live" if sys.stdout.isatty() else "lines")
    output, errors, log = held.enter_context(captured(folder, job.name))
    folder.write_bytes(f"config-{job.name}.json", resolved(config).encode())
    terminal = Terminal(mode, output=output, errors=errors)
    from cluster import interrupts
    from cluster.session import connect, disconnect
    from workflows.stage.heartbeat import Heartbeat
    from workflows.stage.usage import Budget
    from workflows.stages import every_stage
    from workflows.status import usage_of

    interrupts.watch()
    terminal.say(f"{job.name}: {folder.uri}, log {Path(log).relative_to(folder.uri) if folder.is_local else log}", run=folder.uri, log=log)
    with Heartbeat(folder, job.name, [stage.name for stage in todo], terminal):
        for line in [*retried, *connect(config.ray)]:
            terminal.say(line)
        held.callback(disconnect)
        interrupts.set_handlers()
        spent = 0.0
        if config.budget.gpu_hours is not None:
            spent = sum(usage_of(folder, stage.name).gpu_s for stage in every_stage(config, folder))
        tracker = Tracker(config.tracking, job=job.name, run=folder, resolved=config.model_dump(mode="json"), warn=terminal.warn)
        run = Run(
            folder=folder,
            tracker=tracker,
            terminal=terminal,
            budget=Budget(config.budget, spent_gpu_s=spent),
            reuse=reuse,
            other_versions=arguments.allow_other_versions,
        )
        failed = True
        try:
            summaries = run_stages(stages, run, wanted, side_by_side=config.side_by_side)
            job.report(config, run, summaries)
            failed = False
        finally:
            tracker.close(failed=failed)
    return 0


def _needed_names(config: Config, folder: Folder, stages: Sequence[Stage], wanted: Sequence[str] | None) -> list[str]:
    """The stages that would run; what other jobs make is taken to be there."""
    by_name: dict[str, Any] = {stage.name: stage for stage in stages}
    found: set[str] = set()

    def visit(name: str) -> None:
        if name in by_name and name not in found and name not in config.reuse:
            found.add(name)
            for read in (*by_name[name].reads, *by_name[name].after):
                visit(read)

    for name in by_name if wanted is None else wanted:
        visit(name)
    return [stage.name for stage in stages if stage.name in found]


def mistake(error: UserError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2
