"""What a stage is, whatever makes its rows: settings and inputs that decide them, and how to make them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.plan import Demand
from genprm.records import Record
from genprm.section import Section
from workflows.stage import parts
from workflows.stage.parts import PartAccount, RejectedRow, StageSummary
from workflows.stage.record import columns, finish
from workflows.stage.run import Run
from workflows.stage.versions import versions


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """A dataset that a run makes once.

    ``name`` is what it is for, as a path: ``estimates/paper``, ``evaluate/genprm/math``; its folder in the run has the same. ``reads``
    are the stages that it needs; ``settings`` all settings that its output depends on, since whatever makes the rows gets these and no
    others: of a field that is not marked as placement (`genprm.section`) a change is refused on resume. ``after`` are stages that must be
    finished first and whose dataset is not read (what is read of them is in the settings, by its contents). ``setting`` is where the
    settings stand in the configuration, for messages.
    """

    name: str
    reads: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    setting: str = ""
    writes: type[Record]
    settings: Section

    @property
    @abstractmethod
    def demand(self) -> Demand:
        """All that must be there at once for the stage to run."""

    @abstractmethod
    def make(self, run: Run, plan: Mapping[str, Any]) -> StageSummary:
        """Make what is missing, and the record; what ``reads`` names is finished."""

    def plan(self, run: Run) -> dict[str, Any]:
        """What decides the output: settings, the contents of what is read, columns, and versions of libraries.

        ValueError, with the setting, if a file or model that the settings name is not there.
        """
        try:
            config = self.settings.identity()
        except ValueError as error:
            raise ValueError(f"{self.setting}.{error}" if self.setting else f"stage {self.name}: {error}") from error
        return {
            "config": config,
            "inputs": {read.partition("/")[0]: run.contents(read) for read in self.reads},
            "columns": columns(self.writes.schema()),
            "versions": versions(self.settings.deciding_libraries()),
        }


@dataclass(frozen=True, kw_only=True)
class TableStage(Stage):
    """A stage that needs its whole input at once (deduplication) and is quick: made in the driver, written in one part.

    ``make_rows(run)`` gives the rows, the rejects and the number of input rows, which is their sum.
    """

    make_rows: Callable[[Run], tuple[Sequence[Record], Sequence[RejectedRow], int]] = field(repr=False)

    @property
    def demand(self) -> Demand:
        return Demand()

    def make(self, run: Run, plan: Mapping[str, Any]) -> StageSummary:
        began = time.time()
        records, rejects, rows_in = self.make_rows(run)
        rows = [record.row() for record in records]
        account = PartAccount(
            keys=[f"in-{index}" for index in range(rows_in)],
            rows_per_key=[1] * len(rows) + [0] * (rows_in - len(rows)),
            rejected={f"in-{len(rows) + index}": reject.reason for index, reject in enumerate(rejects)},
            session="driver",
            began=began,
            committed=time.time(),
            versions=versions(),
        )
        parts.write_part(run.folder, self.name, rows, self.writes.schema(), account, rejects)
        return finish(self.name, self.writes.schema(), run, plan, rows_in)
