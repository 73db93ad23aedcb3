"""How many failures a stage bears."""

from __future__ import annotations

from pydantic import Field

from genprm.section import Placement, Section


class FailureLimits(Section):
    """When a stage stops for failures that are not the data's.

    It does when nothing was processed for ``patience_s`` and every worker fails, or when more than ``max_share`` of the tries in that time
    did. Failed rows are tried again after ``first_pause_s`` at first, then later and later, up to ``longest_pause_s``. ``unknown_rows``
    may be rejected that raised an exception nobody foresaw ``row_attempts`` times. ``worker_failures`` rows in a row, and a worker gets
    one row at a time until one succeeds; after as many again it is replaced, if others succeed. A worker reports every second; one that
    says nothing for ``silence_s`` (its process is stopped, its node hangs) is replaced.
    """

    patience_s: Placement[float] = Field(default=600.0, gt=0)
    max_share: Placement[float] = Field(default=0.5, gt=0, le=1)
    row_attempts: Placement[int] = Field(default=5, ge=1)
    unknown_rows: Placement[int] = Field(default=10, ge=0)
    worker_failures: Placement[int] = Field(default=4, ge=1)
    first_pause_s: Placement[float] = Field(default=0.5, gt=0)
    longest_pause_s: Placement[float] = Field(default=30.0, gt=0)
    silence_s: Placement[float] = Field(default=300.0, gt=0)

    def pause(self, attempts: int) -> float:
        """Seconds to wait after ``attempts`` failures (from 1): twice as long each time."""
        return min(self.first_pause_s * 2.0 ** min(attempts - 1, 30), self.longest_pause_s)
