"""Results for people: a text table, a page with pictures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from workflows.stage.parts import StageSummary
from workflows.stage.folder import Folder


def summary_rows(summaries: Sequence[StageSummary]) -> list[dict[str, Any]]:
    return [{**asdict(summary), "tokens_per_s": summary.tokens_per_s} for summary in summaries]


def stage_table(summaries: Sequence[StageSummary]) -> str:
    """Stage, rows in and out, rejects by reason, tokens, seconds, tokens/s."""
    return text_table(_STAGE_HEAD, _stage_cells(summary_rows(summaries)))


_STAGE_HEAD = ("stage", "in", "out", "rejects", "tokens", "s", "tokens/s")


def _stage_cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    cells = []
    for row in rows:
        rejects = ", ".join(f"{reason} {count}" for reason, count in sorted(row["rejects"].items())) or "-"
        rate = f"{row['tokens_per_s']:,.0f}" if row["tokens"] else "-"
        tokens = f"{row['tokens']:,}" if row["tokens"] else "-"
        cells.append([row["stage"], str(row["rows_in"]), str(row["rows_out"]), rejects, tokens, f"{row['seconds']:.1f}", rate])
    return cells


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(str(row[column])) for row in [head, *rows]) for column in range(len(head))]
    lines = ["  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


PAPER_F1 = {"evaluate/one_vote": "75.2", "evaluate/votes": "80.5", "evaluate_not_run/votes": "79.9"}
"""Average ProcessBench F1 of GenPRM-7B, from Tables 4 and 5, for the like of ours."""
PAPER_LABELS = {
    "hard": "73.2", "difference -0.1": "74.1", "difference -0.3": "74.1", "difference -0.5": "74.3",
    "RPE 0.1": "73.5", "RPE 0.5": "73.5", "RPE 0.8": "75.2", "RPE 1.0": "72.3",
}  # fmt: skip
"""ProcessBench F1 of models trained on each rule's labels, from Table 3 (another measure of the same thing)."""


def result_tables(results: Mapping[str, Any]) -> list[tuple[str, Sequence[str], list[list[str]]]]:
    """(title, head, rows) of every table; what only the oracle of the arithmetic world can say is left out elsewhere."""
    labels, consensus, verifier, found = results["labels"], results["consensus"], results["verifier"], results["search"]
    votes = results["num_votes"]
    tables: list[tuple[str, Sequence[str], list[list[str]]]] = [("Stages", _STAGE_HEAD, _stage_cells(results["stages"]))]
    if labels is not None:
        tables.append(
            (
                f"Label quality: share of {labels['num_solutions']} solutions ({labels['num_erroneous']} erroneous) whose first "
                "error is the oracle's, %",
                ("rule", "all", "erroneous", "correct", "paper's F1"),
                [
                    [
                        name,
                        _number(row["exact"]),
                        _number(row["exact_erroneous"]),
                        _number(row["exact_correct"]),
                        PAPER_LABELS.get(name, "-"),
                    ]
                    for name, row in labels["rules"].items()
                ],
            )
        )
    other = results["other_labels"]
    if labels is not None and other is not None:
        config = results["config"]
        by_estimator = [(config["estimates"]["type"], labels), (config["demo"]["estimates"]["type"], other)]
        rules = ("RPE 0.5", "RPE 0.8", "smoothed RPE 0.5", "smoothed RPE 0.8")
        tables.append(
            (
                "Estimators side by side: cost of a solution, and share whose first error is the oracle's, %",
                ("estimator", "completions", "tokens", *rules),
                [
                    [
                        name,
                        _number(table["completions"]),
                        _number(table["tokens"]),
                        *(_number(table["rules"][rule]["exact"]) for rule in rules),
                    ]
                    for name, table in by_estimator
                ],
            )
        )
    if consensus is not None:
        tables.append(
            (
                "Consensus filtering, %",
                ("measure", "value"),
                [
                    [f"kept of {consensus['num_labelled']} solutions", _number(consensus["kept_share"])],
                    ["first error exact before", _number(consensus["exact_before"])],
                    ["first error exact after", _number(consensus["exact_after"])],
                    ["first error exact, judge alone", _number(consensus["exact_judge"])],
                ],
            )
        )
    tables += _agreement_tables(results["agreement"])
    tables += [
        (
            "GenPRM on held-out solutions, %",
            ("verifier", "error acc.", "correct acc.", "F1", "paper's F1 (7B)"),
            [
                [
                    title,
                    _number(verifier[stage][f"{kind}/error_accuracy"]),
                    _number(verifier[stage][f"{kind}/correct_accuracy"]),
                    _number(verifier[stage][f"{kind}/f1"]),
                    PAPER_F1.get(f"{stage}/{kind}", "-"),
                ]
                for title, stage, kind in (
                    ("base, one sample, code run", "evaluate_base", "one_vote"),
                    ("trained, one sample, code run", "evaluate", "one_vote"),
                    (f"trained, majority of {votes}, code run", "evaluate", "votes"),
                    ("trained, one sample, code not run", "evaluate_not_run", "one_vote"),
                    (f"trained, majority of {votes}, code not run", "evaluate_not_run", "votes"),
                )
            ],
        ),
        (
            f"Best of {results['num_candidates']} on held-out problems, % right",
            ("choice", "value"),
            [
                ["pass@1", _number(found["pass_at_1"])],
                ["majority", _number(found["majority"])],
                ["best-of-N with GenPRM", _number(found["best_of_n"])],
                [f"pass@{results['num_candidates']}", _number(found["pass_at_n"])],
            ],
        ),
        (
            "Critic on held-out problems, % right",
            ("rewrites", "value"),
            [[str(turn), _number(value)] for turn, value in enumerate(_critic(found))],
        ),
    ]
    return tables


def _agreement_tables(agreement: Mapping[str, Any]) -> list[tuple[str, Sequence[str], list[list[str]]]]:
    names = agreement["names"]
    return [
        (
            "First error by estimate (rows) and by judge (columns), solutions",
            ("estimate", *(f"judge: {name}" for name in names), "no verdict"),
            [[name, *(str(count) for count in row)] for name, row in zip(names, agreement["matrix"], strict=True)],
        ),
        (
            "Kept by level of the problem",
            ("level", "solutions", "kept", "%"),
            [[level, str(number), str(kept), _number(100 * kept / number)] for level, (number, kept) in agreement["levels"].items()],
        ),
    ]


def _critic(found: Mapping[str, float]) -> list[float]:
    turns: list[float] = []
    while f"critic_turn_{len(turns)}" in found:
        turns.append(found[f"critic_turn_{len(turns)}"])
    return turns


def results_text(results: Mapping[str, Any]) -> str:
    blocks = [f"{title}\n{text_table(head, rows)}" for title, head, rows in result_tables(results)]
    return "\n\n" + "\n\n".join(blocks) + f"\n\nall stages took {results['seconds']:.0f} s this time\n"


def _figure(results: Mapping[str, Any]) -> bytes:
    """Four panels as PNG: labels, verifier, best-of-N, critic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), layout="constrained")
    rules = results["labels"]["rules"] if results["labels"] else {}
    if rules:
        _bars(axes[0][0], "Labels: first error exact, %", list(rules), [row["exact"] or 0.0 for row in rules.values()])
    else:
        axes[0][0].axis("off")
    verifier = results["verifier"]
    names = ["base", "1 sample", f"maj. of {results['num_votes']}", "1, not run", f"maj. of {results['num_votes']}, not run"]
    keys = [
        ("evaluate_base", "one_vote"), ("evaluate", "one_vote"), ("evaluate", "votes"),
        ("evaluate_not_run", "one_vote"), ("evaluate_not_run", "votes"),
    ]  # fmt: skip
    _bars(axes[0][1], "GenPRM: F1, %", names, [verifier[stage][f"{kind}/f1"] for stage, kind in keys])
    found = results["search"]
    choices = ["pass_at_1", "majority", "best_of_n", "pass_at_n"]
    count = results["num_candidates"]
    _bars(axes[1][0], "Best-of-N: right, %", ["pass@1", "majority", "best-of-N", f"pass@{count}"], [found[key] for key in choices])
    critic = _critic(found)
    axes[1][1].plot(range(len(critic)), critic, marker="o", color="#3b6ea8")
    axes[1][1].set(title="Critic: right after k rewrites, %", xlabel="rewrites", ylim=(0, 115), xticks=range(len(critic)))
    for turn, value in enumerate(critic):
        axes[1][1].annotate(f"{value:.1f}", (turn, value), textcoords="offset points", xytext=(0, 8), ha="center", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return buffer.getvalue()


def _bars(axis: Any, title: str, names: Sequence[str], values: Sequence[float]) -> None:
    bars = axis.bar(range(len(names)), values, color="#3b6ea8")
    axis.bar_label(bars, fmt="%.1f", fontsize=9)
    axis.set(title=title, ylim=(0, 110))
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=9)


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{border-bottom:1px solid #ddd;padding:.25rem .8rem;text-align:left}"
    "td+td,th+th{font-variant-numeric:tabular-nums}img{max-width:100%}h2{font-size:1.05rem;margin-top:2rem}"
)


def write_report(run: Folder, results: Mapping[str, Any]) -> None:
    """``report.html``, one page without outside parts, and ``report.png``."""
    picture = _figure(results)
    body = ["<h1>GenPRM run</h1>", f"<p>{html.escape(run.uri)}</p>"]
    encoded = base64.b64encode(picture).decode()
    body.append(f'<img alt="labels, verifier, best-of-N and critic as bars" src="data:image/png;base64,{encoded}">')
    for title, head, rows in result_tables(results):
        cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
        lines = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
        body.append(f"<h2>{html.escape(title)}</h2><table><tr>{cells}</tr>{lines}</table>")
    body.append(
        "<p>The paper's figures are of models of 7B parameters on ProcessBench; ours of the tiny models and data named in the "
        "configuration. They stand side by side for their trends, not their heights.</p>"
    )
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>GenPRM run</title><style>{_STYLE}</style>{''.join(body)}</html>"
    run.write_bytes("report.html", page.encode())
    run.write_bytes("report.png", picture)
