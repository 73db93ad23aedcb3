"""How many workers a stage has and how much each keeps in flight."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from genprm.section import Placement, Section

ALL = "all"


class Pool(Section):
    """``num_workers`` actors with ``rows_in_flight`` rows each: a number, ``"2-8"`` for as many as there is room for between the two, or
    ``"all"`` for as many as the cluster has room for, and more when it grows.

    Results are committed when there are ``commit_rows`` of them, or after ``commit_s`` seconds. What is in flight and what is not
    committed is done again when a worker is killed or preempted; more rows in flight keep an engine fuller.
    """

    num_workers: Placement[int | Literal["all"] | str] = 1
    rows_in_flight: Placement[int] = Field(default=64, ge=1)
    commit_rows: Placement[int] = Field(default=64, ge=1)
    commit_s: Placement[float] = Field(default=10.0, gt=0)

    @field_validator("num_workers")
    @classmethod
    def _is_a_number_or_range(cls, value: int | str) -> int | str:
        text = str(value)
        found = re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", text)
        if text != ALL and (not found or not 1 <= int(found[1]) <= int(found[2] or found[1])):
            raise ValueError('give a number from 1, a range like "2-8", or "all"')
        return value

    @property
    def least(self) -> int:
        """Workers without which the stage does not fit: for ``"all"`` one."""
        text = str(self.num_workers)
        return 1 if text == ALL else int(text.partition("-")[0])

    @property
    def most(self) -> int | None:
        """None: no limit."""
        text = str(self.num_workers)
        return None if text == ALL else int(text.rpartition("-")[2])

    @property
    def spare_rows(self) -> int:
        """Rows that wait in a worker, so that none of its places is empty while the driver sends more."""
        return max(1, self.rows_in_flight // 4)


class SearchPool(Pool):
    """The workers of search hold a verifier each; ``num_policy_engines`` serve them all."""

    num_policy_engines: Placement[int] = Field(default=1, ge=1)
