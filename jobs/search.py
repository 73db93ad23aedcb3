"""Best-of-N and critic with a trained verifier; see workflows/search.py."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from jobs import cli

if TYPE_CHECKING:
    from jobs.config import Config
    from workflows.stage.folder import Folder
    from workflows.stage.tracking import Tracker


def main() -> int:
    parser = cli.parser("search", "Best-of-N against majority voting and pass@N, and the critic's rewrites.")
    arguments = parser.parse_args()

    def execute(config: Config, run: Folder, tracker: Tracker) -> None:
        from jobs.settings import search_settings
        from workflows.demo.report import stage_table
        from workflows.search import scores, search

        print(stage_table(search(run, search_settings(config), tracker)))
        print(json.dumps(scores(run), indent=2))

    return cli.main("search", arguments, ("search_problems", "search"), execute)


if __name__ == "__main__":
    sys.exit(main())
