"""How many workers a stage has and how much each keeps in flight."""

from __future__ import annotations

from pydantic import Field

from genprm.section import Placement, Section


class Pool(Section):
    """``num_workers`` actors with ``rows_in_flight`` rows each, committed in blocks of ``block_rows``.

    A block is what can be lost when a worker is killed or preempted; more rows in flight keep an engine fuller. Ray Data's
    backpressure holds further blocks back until one of these is committed.
    """

    num_workers: Placement[int] = Field(default=1, ge=1)
    block_rows: Placement[int] = Field(default=8, ge=1)
    rows_in_flight: Placement[int] = Field(default=64, ge=1)
