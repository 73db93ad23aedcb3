"""How far a run is and what it has cost, from its directory alone: no Ray, no configuration, no listing of data."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from actors.storage import Folder
from genprm.errors import UserError
from workflows.report import Table, short
from workflows.stage import parts
from workflows.stage.heartbeat import JobStatus, read_jobs
from workflows.stage.ledger import Ledger, Usage
from workflows.stage.links import LINK
from workflows.stage.progress import duration
from workflows.stage.record import summary_of

WIDTH = 80
State = Literal["finished", "running", "stopped", "waiting", "elsewhere"]
"""``stopped``: begun, and no job works on it; ``elsewhere``: read from another run."""


@dataclass(frozen=True, kw_only=True)
class StageStatus:
    """``done`` of ``total`` rows are processed (None: not known yet). Failures are tries of rows that failed and were made again."""

    stage: str
    state: State
    done: int | None = None
    total: int | None = None
    rows_out: int = 0
    rejects: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    rows_per_s: float | None = None
    eta_s: float | None = None
    tokens: int = 0
    tokens_per_s: float | None = None
    usage: Usage = field(default_factory=Usage)
    num_workers: int | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """The stages of all jobs that worked in the run, in order, and the last job of each name."""

    run: str
    jobs: Sequence[JobStatus]
    stages: Sequence[StageStatus]

    @property
    def usage(self) -> Usage:
        return sum((stage.usage for stage in self.stages), Usage())


def read_status(run: Folder) -> RunStatus:
    """UserError if no job has worked there."""
    jobs = read_jobs(run)
    if not jobs:
        raise UserError(f"{run.uri} is no run directory, or of an earlier version: it has no status/")
    live = {found["stage"]: (found, job.is_alive) for job in jobs for found in job.running}
    names = dict.fromkeys(name for job in jobs for name in job.stages)
    return RunStatus(run=run.uri, jobs=jobs, stages=[stage_status(run, name, *live.get(name, (None, False))) for name in names])


def usage_of(run: Folder, stage: str) -> Usage:
    """What a stage of this run has held so far."""
    if (run / stage).exists(LINK):
        return Usage()
    if parts.is_finished(run, stage):
        summary = summary_of(parts.read_record(run, stage))
        return Usage(cpu_s=summary.cpu_seconds, gpu_s=summary.gpu_seconds)
    return Ledger.read(run / stage).usage


def stage_status(run: Folder, name: str, live: Mapping[str, Any] | None = None, is_alive: bool = False) -> StageStatus:
    """``live`` is what a heartbeat last said of the stage, ``is_alive`` whether that job still works."""
    if parts.is_finished(run, name):
        is_elsewhere = (run / name).exists(LINK)
        summary = summary_of(parts.read_record(run, name))
        return StageStatus(
            stage=name,
            state="elsewhere" if is_elsewhere else "finished",
            done=summary.rows_in,
            total=summary.rows_in,
            rows_out=summary.rows_out,
            rejects=summary.rejects,
            failures={} if is_elsewhere else summary.failures,
            rows_per_s=summary.rows_in / summary.work_seconds if summary.work_seconds else None,
            tokens=0 if is_elsewhere else summary.tokens,
            tokens_per_s=summary.tokens_per_s or None,
            usage=Usage() if is_elsewhere else Usage(cpu_s=summary.cpu_seconds, gpu_s=summary.gpu_seconds),
        )
    if not (run / name).exists(parts.PLAN):
        return StageStatus(stage=name, state="waiting")
    ledger = Ledger.read(run / name)
    known = live or {}
    now = known if is_alive else {}
    return StageStatus(
        stage=name,
        state="running" if is_alive and live is not None else "stopped",
        done=ledger.rows_in or known.get("done"),
        total=known.get("total"),
        rows_out=ledger.rows_out,
        rejects=dict(ledger.rejects),
        failures=dict(ledger.failures),
        rows_per_s=now.get("rows_per_s"),
        eta_s=now.get("eta_s"),
        tokens=ledger.tokens,
        tokens_per_s=now.get("tokens_per_s"),
        usage=ledger.usage,
        num_workers=now.get("num_workers"),
        detail=known.get("detail", ""),
    )


# --- for people and for programs ---


def as_json(status: RunStatus) -> dict[str, Any]:
    return {**asdict(status), "usage": asdict(status.usage), "jobs": [asdict(job) | {"is_alive": job.is_alive} for job in status.jobs]}


def text(status: RunStatus) -> str:
    """At most 80 columns wide, but for paths and for long names of stages."""
    lines = [status.run, *(_job_line(job) for job in status.jobs), ""]
    cells = [_cells(stage) for stage in status.stages]
    usage = status.usage
    tokens = sum(stage.tokens for stage in status.stages)
    cells.append(["all", "", "", "", "", short(tokens) if tokens else "", _hours(usage.gpu_s), _hours(usage.cpu_s)])
    head = ("stage", "state", "rows", "rows/s", "left", "tokens", "GPU h", "CPU h")
    _, *table = Table(title="", head=head, rows=cells).text().splitlines()
    lines += table
    notes = [note for stage in status.stages for note in _notes(stage)]
    return "\n".join([*lines, *([""] if notes else []), *notes, *_kept(status)])


def _job_line(job: JobStatus) -> str:
    since, seen = duration(job.updated - job.began), duration(time.time() - job.updated)
    if job.outcome is None and job.is_alive:
        return f"{job.job}: running for {since}, {job.holder}, last heartbeat {seen} ago"
    if job.outcome is None:
        return f"{job.job}: no heartbeat for {seen}, it was killed or its node is gone ({job.holder}); the same command resumes"
    if job.outcome == "finished":
        return f"{job.job}: finished {seen} ago, took {since}"
    first_line = job.error.partition("\n")[0]
    return f"{job.job}: {job.outcome} {seen} ago after {since}" + (f": {first_line}" if first_line else "")


def _cells(stage: StageStatus) -> list[str]:
    rows = "" if stage.done is None else f"{stage.done:,}" + (f"/{stage.total:,}" if stage.total is not None else "")
    return [
        stage.stage,
        stage.state,
        rows,
        "" if stage.rows_per_s is None else f"{stage.rows_per_s:,.0f}" if stage.rows_per_s >= 100 else f"{stage.rows_per_s:.3g}",
        "" if stage.eta_s is None else duration(stage.eta_s),
        short(stage.tokens) if stage.tokens else "",
        _hours(stage.usage.gpu_s),
        _hours(stage.usage.cpu_s),
    ]


def _notes(stage: StageStatus) -> list[str]:
    found = []
    if stage.state == "running" and stage.num_workers is not None:
        found.append(f"{stage.num_workers} workers")
    if stage.tokens_per_s and stage.state == "running":
        found.append(f"{stage.tokens_per_s:,.0f} tokens/s")
    if stage.detail:
        found.append(stage.detail)
    if stage.rejects:
        found.append(f"rejected: {_counts(stage.rejects)}")
    if stage.failures:
        found.append(f"failed tries: {_counts(stage.failures)}")
    return textwrap.wrap(f"{stage.stage}: {'; '.join(found)}", WIDTH, subsequent_indent="  ") if found else []


def _kept(status: RunStatus) -> list[str]:
    """What a conversation has cost, where there are some."""
    found = []
    for stage in status.stages:
        if stage.stage.startswith("conversations/") and stage.rows_out:
            made = [one for one in status.stages if one.stage.partition("/")[0] in ("rollouts", "estimates", "rationales")]
            tokens, gpu_s = sum(one.tokens for one in made), sum(one.usage.gpu_s for one in made)
            gpus = f" and {gpu_s / stage.rows_out:,.3g} GPU seconds" if gpu_s else ""
            found.append(f"{stage.stage}: {stage.rows_out:,} conversations kept, {tokens / stage.rows_out:,.0f} tokens{gpus} each")
    return found


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}" if seconds else ""
