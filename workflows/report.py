"""Results for people: text tables, a page with pictures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from actors.storage import Folder
from genprm.records import SearchResult
from workflows.stage.run import Run
from workflows.stage.summary import StageSummary

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""By verifier, benchmark or problem set, and score."""


@dataclass(frozen=True, kw_only=True)
class Table:
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """The title, and columns of equal width under it."""
        widths = [max(len(str(row[column])) for row in [self.head, *self.rows]) for column in range(len(self.head))]
        lines = [
            "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [self.head, *self.rows]
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self.title, *lines])


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A picture of values by name; ``line`` joins them where the names are a sequence."""

    title: str
    values: Mapping[str, float]
    line: bool = False


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def short(number: float) -> str:
    """Three digits: 950, 9.5K, 1.24M, 3.1G."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.0f}"


def show_stages(run: Run, summaries: Sequence[StageSummary]) -> None:
    """What a job ends with: its stages as a table, and where the data are."""
    run.terminal.result(f"{stage_table(summary_rows(summaries)).text()}\ndata: {run.folder.uri}", stages=summary_rows(summaries))


def summary_rows(summaries: Sequence[StageSummary]) -> list[dict[str, Any]]:
    return [{**asdict(summary), "tokens_per_s": summary.tokens_per_s} for summary in summaries]


def stage_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Stage, rows in and out, rejects by reason, tokens, seconds, tokens/s, GPU hours where there are any."""
    has_gpus = any(row["gpu_seconds"] for row in rows)
    cells = []
    for row in rows:
        rejects = ", ".join(f"{reason} {count}" for reason, count in sorted(row["rejects"].items())) or "-"
        rate = f"{row['tokens_per_s']:,.0f}" if row["tokens"] else "-"
        tokens = f"{row['tokens']:,}" if row["tokens"] else "-"
        gpus = [f"{row['gpu_seconds'] / 3600:.2f}"] if has_gpus else []
        cells.append([row["stage"], str(row["rows_in"]), str(row["rows_out"]), tokens, f"{row['seconds']:.1f}", rate, *gpus, rejects])
    gpus = ["GPU h"] if has_gpus else []
    return Table(title="Stages", head=("stage", "in", "out", "tokens", "s", "tokens/s", *gpus, "rejects"), rows=cells)


def score_table(scores: Scores, paper: Mapping[tuple[str, str], str] | None = None) -> Table:
    """F1 of every verifier on every benchmark, with one vote and with the mean of all; the macro average where there are several
    benchmarks. ``paper`` has the paper's F1 of (verifier, ``one_vote`` or ``votes``), which adds a column."""
    rows = []
    for verifier, benchmarks in scores.items():
        for name, values in benchmarks.items():
            if name == "average" and len(benchmarks) == 2:
                continue
            for kind, title in (("one_vote", "one vote"), ("votes", "all votes")):
                if kind == "votes" and values["one_vote/f1"] == values["votes/f1"] and (verifier, kind) not in (paper or {}):
                    continue
                cells = [number(values[f"{kind}/{score}"]) for score in ("error_accuracy", "correct_accuracy", "f1")]
                rows.append([verifier, name, title, *cells, *([paper.get((verifier, kind), "-")] if paper is not None else [])])
    head = ["verifier", "benchmark", "votes", "error acc.", "correct acc.", "F1", *(["paper's F1 (7B)"] if paper is not None else [])]
    return Table(title="First errors found, %", head=head, rows=rows)


def search_tables(scores: Scores, num_candidates: int) -> list[Table]:
    """Ways to choose among the candidates, and the critic's rewrites, of every verifier on every problem set."""
    choices, critic = [], []
    for verifier, sets in scores.items():
        for name, values in sets.items():
            if values:
                cells = [number(values[choice]) for choice in SearchResult.CHOICES]
                choices.append([verifier, name, *cells])
                critic.append([verifier, name, " / ".join(number(value) for value in critic_turns(values))])
    head = ("verifier", "problems", *choice_titles(num_candidates))
    return [
        Table(title="Problems solved, %", head=head, rows=choices),
        Table(title="Problems solved with a critic, %", head=("verifier", "problems", "after 0 / 1 / ... rewrites"), rows=critic),
    ]


def choice_titles(num_candidates: int) -> tuple[str, ...]:
    """Of `SearchResult.CHOICES`."""
    return ("pass@1", "majority", "weighted majority", f"best-of-{num_candidates}", f"pass@{num_candidates}")


def critic_turns(values: Mapping[str, float]) -> list[float]:
    turns: list[float] = []
    while f"critic_turn_{len(turns)}" in values:
        turns.append(values[f"critic_turn_{len(turns)}"])
    return turns


def agreement_tables(agreement: Mapping[str, Any], conversations: str) -> list[Table]:
    """How the label rule and the judge agree on the first error, and what was kept of each level."""
    names = agreement["names"]
    return [
        Table(
            title=f"{conversations}: solutions by first error, of the estimate (rows) and of the judge (columns)",
            head=("estimate \\ judge", *names, "no verdict"),
            rows=[[name, *(str(count) for count in row)] for name, row in zip(names, agreement["matrix"], strict=True)],
        ),
        Table(
            title=f"{conversations}: kept by level of the problem",
            head=("level", "solutions", "kept", "%"),
            rows=[[level, str(total), str(kept), number(100 * kept / total)] for level, (total, kept) in agreement["levels"].items()],
        ),
    ]


def text(tables: Sequence[Table]) -> str:
    return "\n\n".join(table.text() for table in tables)


def picture(panels: Sequence[Panel]) -> bytes:
    """The panels as one PNG, two a row."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = max(1, -(-len(panels) // 2))
    figure, axes = plt.subplots(rows, 2, figsize=(11, 3.75 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, panel in zip(axes.flat, panels, strict=False):
        names, values = list(panel.values), list(panel.values.values())
        if panel.line:
            axis.plot(range(len(values)), values, marker="o", color="#3b6ea8")
            for index, value in enumerate(values):
                axis.annotate(f"{value:.1f}", (index, value), textcoords="offset points", xytext=(0, 8), ha="center", fontsize=9)
            axis.set_xticks(range(len(names)), names, fontsize=9)
        else:
            axis.bar_label(axis.bar(range(len(values)), values, color="#3b6ea8"), fmt="%.1f", fontsize=9)
            axis.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=9)
        axis.set(title=panel.title, ylim=(0, 112))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return buffer.getvalue()


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{border-bottom:1px solid #ddd;padding:.25rem .8rem;text-align:left}"
    "td+td,th+th{font-variant-numeric:tabular-nums}img{max-width:100%}h2{font-size:1.05rem;margin-top:2rem}"
)


def write_report(run: Folder, title: str, tables: Sequence[Table], panels: Sequence[Panel], note: str = "") -> None:
    """``report.html``, one page without outside parts, and ``report.png``."""
    image = picture(panels)
    body = [f"<h1>{html.escape(title)}</h1>"]
    body.append(f'<img alt="{html.escape("; ".join(panel.title for panel in panels))}" src="data:image/png;base64,{_base64(image)}">')
    for table in tables:
        cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.head)
        lines = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in table.rows)
        body.append(f"<h2>{html.escape(table.title)}</h2><table><tr>{cells}</tr>{lines}</table>")
    body.append(f"<p>{html.escape(note)}</p>")
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>{''.join(body)}</html>"
    )
    run.write_bytes("report.html", page.encode())
    run.write_bytes("report.png", image)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
