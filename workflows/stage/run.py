"""A run: its directory, what it reads from other runs, and where it reports to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.storage import Folder
from workflows.stage import parts
from workflows.stage.links import DONE, LINK
from workflows.stage.terminal import Terminal
from workflows.stage.tracking import Tracker, TrackingConfig
from workflows.stage.usage import Budget, BudgetConfig


@dataclass(frozen=True, kw_only=True)
class Run:
    """``reuse`` maps stages to the folders of other runs that hold them, finished. ``other_versions`` allows a stage to resume under other
    versions of the libraries that decide its results."""

    folder: Folder
    tracker: Tracker
    terminal: Terminal
    budget: Budget = field(default_factory=lambda: Budget(BudgetConfig()))
    reuse: Mapping[str, Folder] = field(default_factory=dict)
    other_versions: bool = False

    @classmethod
    def untracked(cls, folder: Folder, *, reuse: Mapping[str, Folder] | None = None, other_versions: bool = False) -> Run:
        """A run of which nothing is tracked and nothing is shown: for benchmarks and tests."""
        tracker = Tracker(TrackingConfig(uri="off"), job="run", run=folder, resolved={})
        return cls(folder=folder, tracker=tracker, terminal=Terminal("quiet"), reuse=reuse or {}, other_versions=other_versions)

    def is_elsewhere(self, stage: str) -> bool:
        """Whether the stage is read from another run, by this job or since an earlier one."""
        return stage in self.reuse or (self.folder / stage).exists(LINK)

    def is_finished(self, stage: str) -> bool:
        return stage in self.reuse or parts.is_finished(self.folder, stage)

    def contents(self, stage: str) -> str:
        """The fingerprint of a finished stage's rows."""
        record = self.reuse[stage].read_json(DONE) if stage in self.reuse else parts.read_record(self.folder, stage)
        return str(record["contents"])
