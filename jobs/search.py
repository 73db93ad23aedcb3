"""Best-of-N and critic with a trained verifier; see workflows/search.py."""

from __future__ import annotations

import json
import sys

from jobs import cli


def main() -> int:
    parser = cli.parser("search", "Best-of-N against majority voting and pass@N, and the critic's rewrites.")
    arguments = parser.parse_args()

    def execute(config, run, tracker):  # type: ignore[no-untyped-def]
        from jobs.settings import search_settings
        from workflows.report import stage_table
        from workflows.search import scores, search

        print(stage_table(search(run, search_settings(config), tracker)))
        print(json.dumps(scores(run), indent=2))

    return cli.main("search", arguments, ("search_problems", "search"), execute)


if __name__ == "__main__":
    sys.exit(main())
