"""What a stage is, whatever makes its rows: settings and inputs that decide them, and how to make them."""

from __future__ import annotations

import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.plan import Demand
from genprm.errors import UserError
from genprm.records import Record
from genprm.section import Section
from workflows.stage import parts
from workflows.stage.ledger import Ledger
from workflows.stage.links import FORMAT
from workflows.stage.parts import RejectedRow
from workflows.stage.record import columns, finish
from workflows.stage.run import Run
from workflows.stage.summary import StageSummary
from workflows.stage.versions import versions

ROWS_PER_PART = 10_000


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
    def demands(self) -> Sequence[Demand]:
        """All that must be there at once for the stage to run, each on one node."""

    def clear(self, run: Run) -> None:
        """Forget all rows; the stage is made again from the beginning."""
        Ledger.read(run.folder / self.name).clear()
        for name in (parts.PARTS, parts.REJECTS):
            (run.folder / self.name).delete_folder(name)
        for name in (run.folder / self.name).names(prefix="part-"):
            (run.folder / self.name).delete(name)

    @property
    def is_row_by_row(self) -> bool:
        """Whether its rejected rows can be processed again by themselves."""
        return False

    @property
    def is_incremental(self) -> bool:
        """Whether rows that are added to what it reads leave its other rows as they are."""
        return False

    @abstractmethod
    def make(self, run: Run, plan: Mapping[str, Any]) -> StageSummary:
        """Make what is missing, and the record; what ``reads`` names is finished."""

    def plan(self, run: Run) -> dict[str, Any]:
        """What decides the output: settings, the contents of what is read, columns, and versions of libraries. For the record also all
        ``settings``, those that decide nothing among them.

        ValueError, with the setting, if a file or model that the settings name is not there.
        """
        try:
            config = self.settings.identity()
        except ValueError as error:
            raise UserError(f"{self.setting}.{error}" if self.setting else f"stage {self.name}: {error}") from error
        return {
            "format": FORMAT,
            "config": config,
            "inputs": {read.partition("/")[0]: run.contents(read) for read in self.reads},
            "columns": columns(self.writes.schema()),
            "versions": versions(self.settings.deciding_libraries()),
            "settings": self.settings.model_dump(mode="json"),
        }


@dataclass(frozen=True, kw_only=True)
class TableStage(Stage):
    """A stage whose rows need one another (deduplication) and are quickly made: in the driver, from the beginning each time.

    ``make_rows(run)`` yields the rows and the rejects, one by one; they are written some thousands at a time.
    """

    make_rows: Callable[[Run], Iterable[Record | RejectedRow]] = field(repr=False)

    @property
    def demands(self) -> Sequence[Demand]:
        return ()

    def make(self, run: Run, plan: Mapping[str, Any]) -> StageSummary:
        folder = run.folder / self.name
        self.clear(run)
        ledger = Ledger(folder)
        began = time.time()
        made = iter(self.make_rows(run))
        while chunk := list(itertools.islice(made, ROWS_PER_PART)):
            rows = [item.row() for item in chunk if not isinstance(item, RejectedRow)]
            rejects = [item for item in chunk if isinstance(item, RejectedRow)]
            facts: dict[str, Any] = {"session": "driver", "began": began, "committed": time.time(), "versions": versions()}
            ledger.commit(parts.write_part(folder, rows, self.writes.schema(), rows_in=len(chunk), rejects=rejects, **facts))
        ledger.close()
        return finish(self.name, self.writes.schema(), run, plan, ledger.rows_in, ledger)
