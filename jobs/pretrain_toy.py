"""Makes the tiny models that ship in genprm/toy; see workflows/toy_models.py."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

ROLES = ("policy", "rationale", "base")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.pretrain_toy",
        description="Train, measure and save the tiny models and data files of the arithmetic world. On a GPU if there is one; "
        "on 2 CPU cores it takes about an hour.",
    )
    parser.add_argument("--output", default="genprm/toy", metavar="DIR", help="gets models/ and data/ (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of everything (default: %(default)s)")
    parser.add_argument("--only", choices=ROLES, action="append", help="make only this model; repeatable (default: all)")
    parser.add_argument("--score-only", action="store_true", help="train nothing: measure the models that are there")
    parser.add_argument("--steps", type=int, metavar="N", help="optimizer steps of each model (default: its own)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be made, and stop")
    arguments = parser.parse_args()
    roles = arguments.only or list(ROLES)
    output = Path(arguments.output)
    if arguments.dry_run:
        print(f"would {'measure' if arguments.score_only else 'train and measure'} {', '.join(roles)} in {output}/models")
        return 0
    return make(roles, output, arguments.seed, arguments.score_only, arguments.steps)


def make(wanted: list[str], output: Path, seed: int, score_only: bool, num_steps: int | None) -> int:
    from workflows import toy_models as toy

    roles = [role for role in toy.ROLES if role in wanted]
    models, data = output / "models", output / "data"
    minutes: dict[toy.Role, float] = {}
    if not score_only:
        tokenizer = toy.make_tokenizer(seed)
        for role in roles:
            minutes[role] = toy.make_model(role, tokenizer, models / role, seed, num_steps or toy.STEPS[role])
        toy.write_problems("synthesis", toy.NUM_SYNTHESIS, seed, data / "synthesis.jsonl")
        toy.write_problems("heldout", toy.NUM_HELDOUT, seed, data / "heldout.jsonl")
        toy.write_problems("synthesis", toy.LAPTOP_SYNTHESIS, seed, data / "laptop" / "synthesis.jsonl")
        toy.write_problems("heldout", toy.LAPTOP_HELDOUT, seed, data / "laptop" / "heldout.jsonl")
    benchmark_file = data / "processbench.json"
    if "policy" in roles or not benchmark_file.is_file():
        asyncio.run(toy.make_benchmark(models, benchmark_file, seed))
    benchmark = toy.read_benchmark_file(benchmark_file)
    for role in roles:
        if role == "policy":
            scores = asyncio.run(toy.score_policy(models, seed))
        elif role == "rationale":
            scores = asyncio.run(toy.score_rationale(models, benchmark, seed))
        else:
            scores = asyncio.run(toy.score_base(models, benchmark, seed))
        toy.write_card(role, models / role, seed, scores, minutes.get(role))
        print(role, ", ".join(f"{name}: {value:.1f}" for name, value in scores.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
