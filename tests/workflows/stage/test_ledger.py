"""The record of what a stage has done: totals, resume, retry, and what a dead driver lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.storage import Folder
from workflows.stage.errors import StageFailed
from workflows.stage.ledger import Commit, File, Ledger, Loss, key_hash, row_hash


def commit(name: str, keys: list[str], *, rejected: dict[str, str] | None = None, rows_hash: int = 0, session: str = "s") -> Commit:
    rejected = rejected or {}
    number = len(keys) - len(rejected)
    return Commit(
        part=name, rows_in=len(keys), rows_out=number, keys=keys, rejected=rejected, tokens=10 * number,
        rows_hash=rows_hash, num_bytes=100, session=session, began=1.0, ready=3.0, committed=9.0, versions={"ray": "2.60.0"},
    )  # fmt: skip


def test_what_is_read_back_is_what_was_written(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    assert not Ledger.is_begun(folder)
    ledger = Ledger.read(folder)
    ledger.commit(commit("a", ["1", "2", "3"], rejected={"2": "unlucky"}))
    ledger.flush()
    ledger.commit(commit("b", ["4"], session="t"))
    ledger.close()
    for found in (ledger, Ledger.read(folder)):
        assert found.done == {key_hash(key) for key in "1234"}
        assert (found.rows_in, found.rows_out, found.tokens, dict(found.rejects)) == (4, 3, 30, {"unlucky": 1})
        assert [file.name for file in found.files.values()] == ["a", "b"]
        assert found.spans == {"s": (1.0, 3.0, 9.0), "t": (1.0, 3.0, 9.0)}
    assert Ledger.is_begun(folder)
    assert (folder / "_ledger").names() == ["00000000.jsonl", "00000001.jsonl"]


def test_a_part_that_was_not_flushed_does_not_exist(tmp_path: Path) -> None:
    ledger = Ledger.read(Folder(str(tmp_path)))
    ledger.commit(commit("a", ["1"]))
    assert Ledger.read(Folder(str(tmp_path))).rows_in == 0


def test_more_entries_than_are_read_ahead(tmp_path: Path) -> None:
    ledger = Ledger.read(Folder(str(tmp_path)))
    for number in range(100):
        ledger.commit(commit(f"part {number}", [str(number)]))
        ledger.flush()
    assert Ledger.read(Folder(str(tmp_path))).rows_in == 100
    ledger.merge()
    assert (Folder(str(tmp_path)) / "_ledger").names() == ["merged.jsonl"]
    assert Ledger.is_begun(Folder(str(tmp_path)))
    again = Ledger.read(Folder(str(tmp_path)))
    again.commit(commit("part 100", ["100", "101"], rejected={"101": "unlucky"}))
    again.close()
    assert (Folder(str(tmp_path)) / "_ledger").names() == ["00000100.jsonl", "merged.jsonl"]
    again = Ledger.read(Folder(str(tmp_path)))
    assert (again.rows_in, again.done) == (102, {key_hash(str(number)) for number in range(102)})
    assert again.retract("unlucky") == 1
    again.merge()
    assert Ledger.read(Folder(str(tmp_path))).rows_in == 101
    Ledger.read(Folder(str(tmp_path))).clear()
    assert (Folder(str(tmp_path)) / "_ledger").names() == []


def test_the_fingerprint_is_of_the_rows_in_any_order(tmp_path: Path) -> None:
    rows = [{"id": str(number), "text": "t"} for number in range(4)]
    contents = []
    for name, groups in (("x", [rows[:1], rows[1:]]), ("y", [rows[::-1]]), ("z", [rows[:3]])):
        ledger = Ledger.read(Folder(str(tmp_path / name)))
        for index, group in enumerate(groups):
            ledger.commit(commit(f"{index}", [row["id"] for row in group], rows_hash=sum(map(row_hash, group))))
        contents.append(ledger.contents)
    assert contents[0] == contents[1] != contents[2]


def test_rows_in_flight_when_a_driver_died_are_counted_once(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    ledger = Ledger.read(folder)
    ledger.commit(commit("a", ["1", "2"]), in_flight=6)
    ledger.flush()  # and the driver is killed
    after = Ledger.read(folder)
    assert after.lost == Loss(rows=6, tokens=60)
    after.commit(commit("b", ["3"]), in_flight=2)
    after.lose(Loss(rows=1, tokens=5))
    after.close()
    assert Ledger.read(folder).lost == Loss(rows=7, tokens=65)


def test_rejects_are_retried_by_reason(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    ledger = Ledger.read(folder)
    ledger.commit(commit("a", ["1", "2", "3", "4"], rejected={"2": "error: KeyError", "3": "unlucky", "4": "error: OSError"}))
    ledger.close()
    assert ledger.retract("error: ") == 2
    for found in (ledger, Ledger.read(folder)):
        assert found.done == {key_hash("1"), key_hash("3")}
        assert (found.rows_in, dict(found.rejects)) == (2, {"unlucky": 1})
        assert found.retracted == {"a": {"2", "4"}}
    ledger.commit(commit("b", ["2"]))
    ledger.commit(commit("c", ["4"], rejected={"4": "error: OSError"}))
    ledger.compact([File(name="part-00-00000.parquet", num_rows=2, num_bytes=5, num_rejects=2)])
    found = Ledger.read(folder)
    assert (found.rows_in, found.rows_out, found.generation, found.retracted) == (4, 2, 1, {})
    assert found.retract() == 2


def test_two_drivers_can_not_both_write(tmp_path: Path) -> None:
    one, other = Ledger.read(Folder(str(tmp_path))), Ledger.read(Folder(str(tmp_path)))
    one.commit(commit("a", ["1"]))
    one.flush()
    other.commit(commit("b", ["1"]))
    with pytest.raises(StageFailed, match="another job writes there"):
        other.flush()


def test_a_merge_that_was_cut_short_leaves_nothing_that_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(str(tmp_path))
    ledger = Ledger.read(folder)
    for number in range(3):
        ledger.commit(commit(f"part {number}", [str(number)]))
        ledger.flush()
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "delete", lambda *_: None)  # killed before it deleted what it had merged
        ledger.merge()
    assert len((folder / "_ledger").names()) == 4
    assert Ledger.read(folder).rows_in == 3
    Ledger.read(folder).clear()
    assert (folder / "_ledger").names() == []
    again = Ledger.read(folder)
    again.commit(commit("new", ["9"]))
    again.close()
    assert Ledger.read(folder).done == {key_hash("9")}
