"""``python -m actors.code_executor --snippets FILE``: is hostile code contained on this machine?"""

from __future__ import annotations

import argparse
import sys


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m actors.code_executor",
        description="Run a file of hostile snippets against the real executor and look at the machine after each; ends with one JSON line.",
    )
    parser.add_argument("--snippets", required=True, metavar="FILE", help="JSONL of name, category, code, expectation")
    parser.add_argument("--lowest-tier", default="standard", metavar="TIER", help="refuse below it (default: %(default)s)")
    parser.add_argument("--no-namespaces", action="store_true", help="without bubblewrap, as in an ordinary pod")
    parser.add_argument("--quiet", action="store_true", help="say only what is not contained")
    arguments = parser.parse_args()

    from actors.code_executor.containment import main as run

    return run(arguments.snippets, arguments.lowest_tier, not arguments.no_namespaces, arguments.quiet)


if __name__ == "__main__":
    sys.exit(main())
