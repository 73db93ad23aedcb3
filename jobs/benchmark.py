"""Speed, measured against the bare library in one run: ``python -m jobs.benchmark <name>``; the last line is JSON."""

from __future__ import annotations

import argparse
import sys


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.benchmark", description="Measure a part against the bare library; ends with one JSON line."
    )
    parser.add_argument("name", choices=["engine"], help="engine: the rollouts stage against bare vLLM on the same prompts")
    parser.add_argument("--config", default="jobs/presets/laptop.toml", metavar="FILE", help="(default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one setting; repeatable")
    parser.add_argument("--problems", type=int, default=200, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--samples", type=int, default=16, metavar="N", help="paths a problem (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be measured, and stop")
    arguments = parser.parse_args()
    if arguments.dry_run:
        print(f"would sample {arguments.samples} paths of {arguments.problems} problems, through the stage and with bare vLLM")
        return 0

    from jobs.config import load
    from workflows.benchmarks import engine_benchmark
    from workflows.storage import Folder

    changes = [
        "problems.path=genprm/toy/data/synthesis.jsonl",
        *arguments.set,
        f"problems.limit={arguments.problems}",
        f"rollouts.first_round={arguments.samples}",
        f"rollouts.max_paths={arguments.samples}",
        "tracking.uri=off",
    ]
    try:
        config = load(arguments.config, changes, Folder("unused"))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    from cluster.session import connect, disconnect
    from jobs.settings import synthesis_settings

    try:
        connect(config.ray)
        try:
            engine_benchmark(synthesis_settings(config))
        finally:
            disconnect()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
