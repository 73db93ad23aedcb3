"""What every job's command line has in common; imports nothing heavy before the arguments are read."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.config import Config
    from workflows.stage.folder import Folder
    from workflows.stage.tracking import Tracker

PRESETS = Path("jobs/presets")


def parser(job: str, description: str, *, preset: str = "laptop", run_dir: str = "runs/<preset>") -> argparse.ArgumentParser:
    """The arguments of every job."""
    arguments = argparse.ArgumentParser(prog=f"python -m jobs.{job}", description=description)
    arguments.add_argument(
        "--config", default=str(PRESETS / f"{preset}.toml"), metavar="FILE", help="TOML configuration (default: %(default)s)"
    )
    arguments.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change one setting; VALUE as in TOML, bare words are text; repeatable",
    )
    arguments.add_argument("--run-dir", metavar="DIR", help=f"where the run's data go, and what it continues from (default: {run_dir})")
    arguments.add_argument("--dry-run", action="store_true", help="print the resolved configuration and what would be run, and stop")
    return arguments


def run_folder(arguments: argparse.Namespace) -> str:
    """The run directory's URI; a local one is made absolute, so that it stays where it is for every process."""
    run_dir = arguments.run_dir or f"runs/{Path(arguments.config).stem}"
    return run_dir if "://" in run_dir else str(Path(run_dir).absolute())


def main(
    job: str,
    arguments: argparse.Namespace,
    plan: Sequence[str],
    execute: Callable[[Config, Folder, Tracker], None],
) -> int:
    """Load the configuration, connect, run; returns the exit status: 2 for a user's mistake, 1 for a failure, 130 on Ctrl-C."""
    from jobs.config import load, resolved
    from workflows.stage.lock import locked
    from workflows.stage.folder import Folder
    from workflows.stage.tracking import Tracker

    run = Folder(run_folder(arguments))
    try:
        config = load(arguments.config, arguments.set, run)
        if arguments.dry_run:
            print(resolved(config))
            print(f"would run, in {run.uri}: " + " -> ".join(plan))
            return 0
        run.create()
    except ValueError as error:
        return mistake(error)
    tracker: Tracker | None = None
    failed = True
    held = contextlib.ExitStack()
    try:
        held.enter_context(locked(run))
        run.write_bytes(f"config-{job}.json", resolved(config).encode())
        from cluster import interrupts
        from cluster.session import connect, disconnect

        interrupts.watch()
        connect(config.ray)
        tracker = Tracker(config.tracking, job=job, run=run, resolved=config.model_dump(mode="json"))
        try:
            execute(config, run, tracker)
        finally:
            disconnect()
        failed = False
        return 0
    except ValueError as error:
        return mistake(error)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except (RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        if tracker is not None:
            tracker.close(failed=failed)
        held.close()


def mistake(error: ValueError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2
