"""How far a run is, from its directory; see workflows/status.py."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from genprm.errors import UserError
from jobs import cli


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.status",
        description="Show how far a run is: its jobs, stages, rates, rejects, failures, tokens, GPU hours. Needs the run directory only.",
    )
    parser.add_argument("run", metavar="RUN", help="the run's directory, or its URI in an object store")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    arguments = parser.parse_args()
    from actors.storage import Folder
    from workflows.status import as_json, read_status, text

    try:
        status = read_status(Folder(arguments.run if "://" in arguments.run else str(Path(arguments.run).absolute())))
    except UserError as error:
        return cli.mistake(error)
    print(json.dumps(as_json(status)) if arguments.json else text(status))
    return 0


if __name__ == "__main__":
    sys.exit(main())
