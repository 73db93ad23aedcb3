"""Estimators against known values: what each costs, and how often it finds the true first error.

A file of values holds estimated solutions with the counts of very many completions at every state and, where it is known otherwise,
their ``true_first_error``. Completions are drawn from those values, at their mean length, and spent by the estimators' own code; nothing
is generated. Made-up worlds do as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.estimator import Estimator, EstimatorConfig, PaperEstimatorConfig, ThriftyEstimatorConfig
from genprm import monte_carlo, progress
from genprm.errors import UserError
from genprm.records import EstimatedSolution
from genprm.smoothing import Chain, Smoother, fit
from workflows.planning.simulated import WORLDS, KnownCompleter, made_up
from workflows.report import Table

EPSILON = 0.8
SCALES = (4, 8, 16, 32, 64)
"""Eq. 9's K of easy, middle and hard problems is the scale times 1/2, 1 and 2; 64 is the paper's."""
PAPER_SCALE = 64
THRIFTY = (*((most, 0.95) for most in (4, 8, 12, 16, 24, 32, 48, 64)), (128, 0.99), (256, 0.99))
"""Most completions a state and sureness of the thrifty estimator; the last two spend about what the paper's does, and more."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """An estimator at one budget: completions and tokens a solution, and agreement (shares) with the first errors of the known values
    and of the oracle; ``precision`` and ``recall`` are of known first errors."""

    name: str
    completions: float
    tokens: float
    agreement: float
    oracle: float | None
    precision: float
    recall: float


def read_true_values(file: Path) -> tuple[list[EstimatedSolution], list[int] | None]:
    """The solutions of a file of values, and their true first errors if it has that column. ValueError if it is no such file."""
    try:
        rows = pq.read_table(file).to_pylist()
        solutions = [EstimatedSolution.of({"given_labels_S": None, **row}) for row in rows]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(f"--values = {str(file)!r}: not a Parquet file of estimated solutions ({error})") from error
    return solutions, [row["true_first_error"] for row in rows] if rows and "true_first_error" in rows[0] else None


NUM_MADE_UP = 300


def by_ratio(solution: EstimatedSolution) -> int:
    start, values = monte_carlo.value(solution.start_counts), monte_carlo.step_values(solution.step_counts_S)
    return progress.first_error(progress.labels(start, values, "ratio", EPSILON))


def smoothed(solutions: Sequence[EstimatedSolution]) -> tuple[list[int], list[float]]:
    """First errors, and how sure they are."""
    chains = [Chain.of(solution) for solution in solutions]
    smoother = Smoother(fit(chains), EPSILON)
    posteriors = [smoother.judge(chain) for chain in chains]
    return [posterior.best for posterior in posteriors], [posterior.sureness for posterior in posteriors]


async def estimates(solutions: Sequence[EstimatedSolution], config: EstimatorConfig, seed: int) -> list[EstimatedSolution]:
    estimator = Estimator(completer=KnownCompleter(solutions, seed), config=config)
    return list(await asyncio.gather(*(estimator.estimate(solution) for solution in solutions)))


def point(
    name: str, estimated: Sequence[EstimatedSolution], found: Sequence[int], true: Sequence[int], oracle: Sequence[int] | None
) -> Point:
    hits = [one == other for one, other in zip(found, true, strict=True)]
    named = [hit for hit, one in zip(hits, found, strict=True) if one >= 0]
    wrong = [hit for hit, other in zip(hits, true, strict=True) if other >= 0]
    return Point(
        name=name,
        completions=float(np.mean([solution.num_completions for solution in estimated])),
        tokens=float(np.mean([solution.num_tokens for solution in estimated])),
        agreement=float(np.mean(hits)),
        oracle=None if oracle is None else float(np.mean([one == other for one, other in zip(found, oracle, strict=True)])),
        precision=float(np.mean(named)) if named else 0.0,
        recall=float(np.mean(wrong)) if wrong else 0.0,
    )


RULES: Mapping[str, str] = {"Eq. 9, ratio": "ratio", "Eq. 9, smoothed": "smoothed", "thrifty, smoothed": "smoothed"}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The points of every estimator (names of RULES), and for the smoothed ones how sure each answer was and whether it was right."""

    curves: Mapping[str, Sequence[Point]]
    reliability: Mapping[str, Sequence[tuple[float, bool]]]


def compare(solutions: Sequence[EstimatedSolution], seeds: Sequence[int], oracle: Sequence[int] | None) -> Comparison:
    """Every estimator at every budget, each the mean over ``seeds``."""
    true = [by_ratio(solution) for solution in solutions]
    runs: list[tuple[str, EstimatorConfig, tuple[str, ...]]] = []
    for scale in SCALES:
        config: EstimatorConfig = PaperEstimatorConfig(start=scale, hard=2 * scale, middle=scale, easy=max(1, scale // 2))
        runs.append((f"K = {scale}", config, ("Eq. 9, ratio", "Eq. 9, smoothed")))
    for most, sureness in THRIFTY:
        config = ThriftyEstimatorConfig(start=32, first=4, batch=4, most=most, sureness=sureness)
        name = f"most = {most}" + (f", sure {sureness}" if sureness != THRIFTY[0][1] else "")
        runs.append((name, config, ("thrifty, smoothed",)))
    lines: dict[str, list[Point]] = {name: [] for name in RULES}
    reliability: dict[str, list[tuple[float, bool]]] = {name: [] for name, rule in RULES.items() if rule == "smoothed"}
    for budget, config, names in runs:
        drawn = [asyncio.run(estimates(solutions, config, seed)) for seed in seeds]
        for name in names:
            points = []
            for estimated in drawn:
                if RULES[name] == "smoothed":
                    found, sure = smoothed(estimated)
                    reliability[name] += [(how, one == other) for how, one, other in zip(sure, found, true, strict=True)]
                else:
                    found = [by_ratio(solution) for solution in estimated]
                points.append(point(f"{name}, {budget}", estimated, found, true, oracle))
            lines[name].append(_mean(points))
            print(f"monte-carlo: {lines[name][-1].name}: {100 * lines[name][-1].agreement:.1f} %", flush=True)
    return Comparison(curves=lines, reliability=reliability)


def _mean(group: Sequence[Point]) -> Point:
    means: dict[str, Any] = {"name": group[0].name}
    for name in ("completions", "tokens", "agreement", "oracle", "precision", "recall"):
        values = [getattr(one, name) for one in group]
        means[name] = None if values[0] is None else float(np.mean(values))
    return Point(**means)


def at_agreement(points: Sequence[Point], wanted: float) -> float | None:
    """Tokens at which a curve reaches an agreement, between its points by a straight line; None if it does not."""
    before: Point | None = None
    for one in sorted(points, key=lambda one: one.tokens):
        if one.agreement >= wanted:
            if before is None or before.agreement >= one.agreement:
                return one.tokens
            share = (wanted - before.agreement) / (one.agreement - before.agreement)
            return before.tokens + share * (one.tokens - before.tokens)
        before = one
    return None


def at_tokens(points: Sequence[Point], tokens: float) -> float:
    """Agreement of a curve at a budget, between its points by a straight line; the last one's beyond it."""
    ordered = sorted(points, key=lambda one: one.tokens)
    return float(np.interp(tokens, [one.tokens for one in ordered], [one.agreement for one in ordered]))


def calibration(answers: Sequence[tuple[float, bool]], bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean sureness, share right, number) of answers in bins of sureness; empty bins are left out."""
    rows = []
    for low in np.arange(bins) / bins:
        inside = [(sure, hit) for sure, hit in answers if low < sure <= low + 1 / bins]
        if inside:
            rows.append((float(np.mean([sure for sure, _ in inside])), float(np.mean([hit for _, hit in inside])), len(inside)))
    return rows


def plot(comparison: Comparison, file: Path) -> None:
    """Agreement over tokens, and whether estimators are as sure as they are right, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, points in comparison.curves.items():
        ordered = sorted(points, key=lambda one: one.tokens)
        left.plot([one.tokens for one in ordered], [100 * one.agreement for one in ordered], marker="o", label=name)
    left.set_xscale("log")
    left.set_xticks([500, 1000, 2000, 4000, 8000], labels=["500", "1,000", "2,000", "4,000", "8,000"])
    left.minorticks_off()
    left.set(xlabel="completion tokens a solution", ylabel="first error agrees with known values, %")
    left.legend()
    right.plot([0, 1], [0, 1], color="grey", linewidth=1)
    for name, answers in comparison.reliability.items():
        rows = calibration(answers)
        right.plot([sure for sure, _, _ in rows], [share for _, share, _ in rows], marker="o", label=name)
    right.set(xlabel="probability given to the answer", ylabel="share right")
    right.legend()
    figure.savefig(file, dpi=110)


def monte_carlo_benchmark(
    seeds: Sequence[int], picture: Path | None, *, values: Path | None = None, world: str = "one-drop"
) -> dict[str, Any]:
    """Prints the curves and gives the figures that matter, on a file of values or else on a made-up world, a name of WORLDS."""
    if values is not None:
        solutions, truth = read_true_values(values)
    else:
        solutions, truth = made_up(WORLDS[world], NUM_MADE_UP), None
    comparison = compare(solutions, seeds, truth)
    print(f"{len(solutions)} solutions, {len(seeds)} seeds; agreement with the known values and the oracle, precision and recall, in %")
    rows = [
        [
            one.name,
            f"{one.completions:.0f}",
            f"{one.tokens:,.0f}",
            *("-" if share is None else f"{100 * share:.1f}" for share in (one.agreement, one.oracle, one.precision, one.recall)),
        ]
        for points in comparison.curves.values()
        for one in points
    ]
    head = ("estimator", "completions", "tokens", "known", "oracle", "precision", "recall")
    print(Table(title="Estimators", head=head, rows=rows).text())
    for name, answers in comparison.reliability.items():
        for sure, share, number in calibration(answers):
            print(f"{name}: {number} answers {100 * sure:.0f} % sure: {100 * share:.0f} % right")
    if picture is not None:
        plot(comparison, picture)
    paper = next(one for one in comparison.curves["Eq. 9, ratio"] if one.name.endswith(f"K = {PAPER_SCALE}"))
    thrifty = comparison.curves["thrifty, smoothed"]
    tokens = at_agreement(thrifty, paper.agreement)
    return {
        "benchmark": "monte-carlo",
        "token_ratio": round(tokens / paper.tokens, 3) if tokens is not None else None,
        "agreement_eq9": round(paper.agreement, 3),
        "agreement_smoothed": round(at_tokens(thrifty, paper.tokens), 3),
    }
