"""How a stage can fail, and how a row can."""

from __future__ import annotations

from genprm.errors import UserError


class Reject(Exception):
    """A row that can't be processed: it is rejected with ``reason`` (counted) and ``detail`` (for people)."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class StageRefused(UserError):
    """The stage's folder was made with other settings, inputs or libraries; the message says which and what to do."""


class SetupFailed(UserError):
    """A worker could not be built: no such model, no memory, no key. Nothing was spent."""


class StageFailed(RuntimeError):
    """The stage could not finish; what it had committed is kept."""
