"""What a stage says while it runs."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest

from workflows.stage.progress import StageProgress


def account(rows: int, rejects: int, tokens: int) -> pa.Table:
    return pa.table({"rows_in": [rows], "rejects": [rejects], "tokens": [tokens]})


def test_rows_rejects_and_those_done_before_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress("s", done=2, total=10, every_s=0.0) as progress:
        progress.add(account(3, 0, 50))
        progress.add(account(4, 1, 50))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(", ")[:2] for line in lines] == [["s: 5/10 rows", "0 rejected"], ["s: 9/10 rows", "1 rejected"]]


def test_while_rows_take_long_there_is_a_sign_of_life_and_none_after_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress("s", done=0, total=10, silent_s=0.05):
        time.sleep(0.5)
    lines = capsys.readouterr().out.splitlines()
    assert 1 <= len(lines) <= 10
    assert set(lines) == {"s: 0/10 rows after 0 min, others in the making"}
    time.sleep(0.2)
    assert capsys.readouterr().out == ""
