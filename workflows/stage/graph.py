"""The stages of a run in order: which are needed, what may run side by side.

Flow: of the stages that are given, those that the wanted ones need are kept, back to what is finished or read from another run. All
that can be refused is refused before anything is spent or written. Then each stage starts as soon as what it reads is finished and
the cluster has room for it beside those that run.

Invariants: a stage runs once, after all that it reads; after a failure or Ctrl-C no further stage starts.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Collection, Iterable, Sequence

from cluster import interrupts
from cluster.nodes import alive_nodes, growable
from cluster.plan import Demand, shortfall
from workflows.stage import parts
from workflows.stage.errors import SetupFailed, StageFailed, StageRefused
from workflows.stage.links import check_link, dataset, write_link
from workflows.stage.record import check_plan, is_begun, summary_of
from workflows.stage.run import Run
from workflows.stage.stage import Stage
from workflows.stage.summary import StageSummary

DRAIN_S = 10.0
"""After an interrupt stages have so long to record what they have done."""


def needed(stages: Sequence[Stage], wanted: Collection[str] | None, run: Run) -> list[Stage]:
    """The stages, in their order, that ``wanted`` ones (None: all) depend on, and these; none of those that are read from another run,
    nor what only these need.

    StageRefused if one needs a stage that is neither among ``stages`` nor finished.
    """
    by_name = {stage.name: stage for stage in stages}
    found: set[str] = set()

    def visit(name: str, reader: str | None) -> None:
        if run.is_elsewhere(name) or name in found:
            return
        if name not in by_name:
            if not run.is_finished(name):
                raise _not_finished(name, reader, run)
            return
        found.add(name)
        for read in (*by_name[name].reads, *by_name[name].after):
            visit(read, name)

    for name in by_name if wanted is None else wanted:
        visit(name, None)
    return [stage for stage in stages if stage.name in found]


def _not_finished(name: str, reader: str | None, run: Run) -> StageRefused:
    return StageRefused(
        f"{reader or 'this job'} needs {name}, which is not finished in {run.folder.uri}: run the job that makes it with the same "
        f"--run-dir, or read it from another run (--from RUN:{name})"
    )


def check(stages: Sequence[Stage], run: Run) -> None:
    """StageRefused for what was begun with other settings, inputs or libraries, ValueError for input files that are not there."""
    for name, target in run.reuse.items():
        check_link(run.folder, name, target)
    for name in {read for stage in stages for read in stage.reads} - set(run.reuse):
        if run.is_elsewhere(name):
            check_link(run.folder, name, dataset(run.folder, name))
    for stage in stages:
        is_input = not stage.reads and not stage.after
        if is_input or (is_begun(run.folder / stage.name) and all(run.is_finished(read) for read in (*stage.reads, *stage.after))):
            check_plan(run.folder / stage.name, stage.plan(run), other_versions=run.other_versions)


def check_resources(stages: Iterable[Stage]) -> None:
    """SetupFailed, with the remedy, for a stage that the cluster as it is could never run."""
    nodes, more = list(alive_nodes().values()), growable()
    for stage in stages:
        missing = shortfall(stage.demands, nodes, growable=more)
        if missing:
            raise SetupFailed(f"stage {stage.name} {missing}")


def run_stages(
    stages: Sequence[Stage], run: Run, wanted: Collection[str] | None = None, *, side_by_side: bool = True
) -> list[StageSummary]:
    """Bring ``wanted`` stages (None: all) to their end, from wherever they stand; finished ones are only reported. In their order.

    Raises StageRefused, SetupFailed or StageFailed; what was committed by then is kept.
    """
    interrupts.check()
    todo = needed(stages, wanted, run)
    check(todo, run)
    check_resources(stage for stage in todo if not run.is_finished(stage.name))
    for name, target in run.reuse.items():
        write_link(run.folder, name, target)
    return _Execution(todo, run, side_by_side=side_by_side).finish()


def run_stage(stage: Stage, run: Run) -> StageSummary:
    """Bring one stage to its end; what it reads must be finished."""
    interrupts.check()
    for read in (*stage.reads, *stage.after):
        if not run.is_finished(read):
            raise _not_finished(read, stage.name, run)
    folder = run.folder / stage.name
    plan = stage.plan(run)
    check_plan(folder, plan, other_versions=run.other_versions)
    if parts.is_finished(run.folder, stage.name):
        summary = summary_of(parts.read_record(run.folder, stage.name))
        run.terminal.say(f"{stage.name}: finished before, {summary.rows_out:,} rows", stage=stage.name, rows=summary.rows_out)
        return summary
    check_resources([stage])
    if run.budget.is_spent and any(demand.gpus for demand in stage.demands):
        raise StageFailed(f"stage {stage.name} is not begun: {run.budget}")
    folder.write_json(parts.PLAN, plan)
    summary = stage.make(run, plan)
    run.terminal.say(_finished_line(summary), stage=stage.name, rows=summary.rows_out, rejects=summary.rejects, seconds=summary.seconds)
    if summary.rows_repeated:
        run.terminal.say(
            f"{stage.name}: {summary.rows_repeated} rows of lost workers repeated, at most {summary.tokens_repeated:,} tokens twice"
        )
    return summary


def _finished_line(summary: StageSummary) -> str:
    rejects = sum(summary.rejects.values())
    rate = f", {summary.tokens_per_s:,.0f} tokens/s" if summary.tokens else ""
    return f"{summary.stage}: {summary.rows_in:,} rows in, {summary.rows_out:,} out, {rejects:,} rejected, {summary.seconds:.0f} s{rate}"


class _Execution:
    """Stages that run, each in a thread of its own, and those that wait."""

    def __init__(self, stages: Sequence[Stage], run: Run, *, side_by_side: bool) -> None:
        self._stages = stages
        self._run = run
        self._side_by_side = side_by_side
        self._waiting = list(stages)
        self._running: dict[str, Sequence[Demand]] = {}
        self._results: dict[str, StageSummary] = {}
        self._ended: queue.SimpleQueue[tuple[str, StageSummary | BaseException]] = queue.SimpleQueue()

    def finish(self) -> list[StageSummary]:
        try:
            return self._finish()
        except KeyboardInterrupt:
            self._drain()
            raise

    def _drain(self) -> None:
        """After an interrupt: wait for the stages that run, which record what they have done."""
        until = time.monotonic() + DRAIN_S
        while self._running and time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                name, _ = self._ended.get(timeout=0.1)
                del self._running[name]

    def _finish(self) -> list[StageSummary]:
        failure: BaseException | None = None
        while self._running or (self._waiting and failure is None):
            if failure is None:
                for stage in self._startable():
                    self._start(stage)
            name, result = self._wait()
            del self._running[name]
            if isinstance(result, StageSummary):
                self._results[name] = result
            elif failure is None:
                failure = result
                if self._running:
                    self._run.terminal.warn(f"error: {result}; waiting for {', '.join(self._running)}, which can still finish")
        if failure is not None:
            raise failure
        return [self._results[stage.name] for stage in self._stages]

    def _startable(self) -> list[Stage]:
        """Those whose inputs are finished and for which there is room beside what runs; the first one always if nothing runs."""
        pending = {stage.name for stage in self._waiting} | set(self._running)
        found: list[Stage] = []
        taken = [demand for demands in self._running.values() for demand in demands]
        nodes = list(alive_nodes().values())
        for stage in self._waiting:
            if pending.intersection((*stage.reads, *stage.after)):
                continue
            alone = not self._running and not found
            if not alone and (not self._side_by_side or shortfall([*taken, *stage.demands], nodes)):
                continue
            found.append(stage)
            taken += stage.demands
        return found

    def _start(self, stage: Stage) -> None:
        self._waiting.remove(stage)
        self._running[stage.name] = stage.demands

        def work() -> None:
            try:
                result: StageSummary | BaseException = run_stage(stage, self._run)
            except BaseException as error:
                result = error
            self._ended.put((stage.name, result))

        threading.Thread(target=work, name=stage.name, daemon=True).start()

    def _wait(self) -> tuple[str, StageSummary | BaseException]:
        while True:
            interrupts.check()
            try:
                return self._ended.get(timeout=0.5)
            except queue.Empty:
                continue
