"""Benchmark files to fingerprints, which keep their problems out of training data; see workflows/decontamination.py."""

from __future__ import annotations

import argparse
import sys


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.hold_out",
        description="Make a fingerprint file of benchmarks, to be named in problems.benchmarks: hashes of their texts and words.",
    )
    parser.add_argument("benchmarks", nargs="+", metavar="FILE", help="JSONL, JSON or Parquet with problem, question or text")
    parser.add_argument("--output", required=True, metavar="NAME.fingerprints.parquet")
    arguments = parser.parse_args()

    from pathlib import Path

    from workflows.inputs.decontamination import FINGERPRINTS, HeldOut

    if not arguments.output.endswith(FINGERPRINTS):
        print(f"error: --output = {arguments.output!r}: its name must end in {FINGERPRINTS}", file=sys.stderr)
        return 2
    try:
        HeldOut.of(arguments.benchmarks, "FILE").write(Path(arguments.output))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
