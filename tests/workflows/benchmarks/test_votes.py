"""Votes counted again: what is cast, what it costs, what it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.storage import Folder
from genprm.records import Segment, SegmentKind, Vote
from workflows.benchmarks.votes import Thrift, replay, votes_benchmark


def step(*rewards: float) -> list[Vote]:
    """Votes of 7 tokens and 90 of code output."""
    said = Segment(kind=SegmentKind.TEXT, text="So.", num_tokens=7)
    printed = Segment(kind=SegmentKind.OUTPUT, text="1", num_tokens=90)
    return [Vote(reward=reward, verdict="yes" if reward >= 0.5 else "no", segments=(said, printed)) for reward in rewards]


def test_votes_are_cast_until_the_rest_can_not_change_it() -> None:
    """A mean of one half is right: of four votes two Yeses decide, and no fewer than three Nos."""
    assert replay([step(1.0, 1.0, 1.0, 1.0)], 1.0, 1) == Thrift(votes=2.0, tokens=14.0, changed=0)
    assert replay([step(0.0, 0.0, 0.0, 1.0)], 1.0, 1) == Thrift(votes=3.0, tokens=21.0, changed=0)
    assert replay([step(0.0, 0.0, 0.0, 1.0)], 1.0, 2) == Thrift(votes=4.0, tokens=28.0, changed=0)
    assert replay([step(1.0, 1.0, 0.0, 0.0), step(0.0, 1.0, 0.0, 0.0)], 1.0, 1).votes == (2 + 4) / 2


def test_less_sure_is_cheaper_and_may_be_wrong() -> None:
    steps = [step(0.0, 0.0, 1.0, 1.0, 1.0, 1.0), step(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)]
    assert replay(steps, 1.0, 1) == Thrift(votes=(5 + 4) / 2, tokens=7 * (5 + 4) / 2, changed=0)
    assert replay(steps, 0.75, 1) == Thrift(votes=2.0, tokens=14.0, changed=1)


def test_a_run_without_judgements_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such finished stage"):
        votes_benchmark(Folder(str(tmp_path)), "evaluate/genprm/math", 2)
