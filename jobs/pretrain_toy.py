"""Makes the tiny models that ship in genprm/toy; see workflows/demo/toy_models.py."""

from __future__ import annotations

import sys
from pathlib import Path

from genprm.errors import UserError
from jobs import cli

HOME = "genprm/toy"


def main() -> int:
    parser = cli.parser(
        "pretrain_toy",
        "Train, measure and save the tiny models and data files of the arithmetic world. On a GPU if there is one; on 2 CPU cores "
        "it takes about an hour.",
        run_dir=f"{HOME}, the ones that ship",
    )
    arguments = cli.parse(parser)
    output = Path(arguments.run_dir or HOME)

    from jobs.config import checked, read_tree, resolved
    from workflows.demo.sections import ToyModelsConfig

    try:
        config = checked(ToyModelsConfig, read_tree(arguments.config, arguments.set))
        if arguments.dry_run:
            print(resolved(config))
            print(f"would {'train and measure' if config.train else 'measure'} {', '.join(config.models)} in {output}/models")
            return 0
        output.mkdir(parents=True, exist_ok=True)

        from workflows.demo.toy_models import make

        make(config, output)
    except UserError as error:
        return cli.mistake(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
