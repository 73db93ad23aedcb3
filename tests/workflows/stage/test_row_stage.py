"""The stage mechanism on a real local Ray: results, resume, refusal, rejects, workers that die."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from actors.engine import EngineError
from actors.engine.config import ScriptedEngineConfig
from actors.remote import Handles
from genprm.records import BenchmarkSolution, Problem
from genprm.section import Section
from workflows.stage import parts
from workflows.stage.errors import Reject, SetupFailed, StageFailed, StageRefused
from workflows.stage.folder import Folder
from workflows.stage.graph import run_stage
from workflows.stage.links import DONE
from workflows.stage.lock import locked
from workflows.stage.parts import PartAccount, RejectedRow
from workflows.stage.pool import Pool
from workflows.stage.row_stage import RowStage, blocks_in_flight
from workflows.stage.run import Run
from workflows.stage.stage import TableStage
from workflows.stage.tracking import Tracker, TrackingConfig

pytestmark = pytest.mark.ray


class Settings(Section):
    factor: int = 2


class Doubler:
    """problem n -> two rows; leaves a mark for every row that it works on."""

    def __init__(self, marks: str, deadly: str, _: Settings, __: Handles) -> None:
        self._marks = Path(marks)
        self._deadly = deadly

    async def process(self, row: dict[str, Any]) -> Sequence[BenchmarkSolution]:
        with (self._marks / row["id"]).open("a") as stream:
            stream.write("x")
        if row["id"] == self._deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if row["id"] == "p3":
            raise Reject("unlucky", "three")
        if row["id"] == "p4":
            raise ZeroDivisionError("four")
        return [BenchmarkSolution(id=f"{row['id']}/{n}", problem=row["text"], steps=("a",), label=-1) for n in range(2)]


def begin(folder: Path, rows: int = 12) -> Run:
    run = Run.untracked(Folder(str(folder / "run")))
    problems = [Problem(id=f"p{n}", text=f"text {n}", answer=str(n), level=None) for n in range(rows)]
    run_stage(TableStage(name="problems", writes=Problem, settings=Section(), make_rows=lambda _: (problems, [], rows)), run)
    (folder / "marks").mkdir(exist_ok=True)
    return run


def stage(folder: Path, *, deadly: str = "", settings: Section | None = None) -> RowStage:
    return RowStage(
        name="doubled",
        reads=("problems",),
        key="id",
        writes=BenchmarkSolution,
        make_worker=partial(Doubler, str(folder / "marks"), deadly),
        settings=settings or Settings(),
        pool=Pool(block_rows=3, rows_in_flight=6),
    )


def marks(folder: Path) -> dict[str, int]:
    return {file.name: len(file.read_text()) for file in (folder / "marks").iterdir()}


def test_rows_rejects_and_totals(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path)
    summary = run_stage(stage(tmp_path), run)
    assert (summary.rows_in, summary.rows_out) == (12, 20)
    assert summary.rejects == {"unlucky": 1, "error: ZeroDivisionError": 1}
    assert sorted(row["id"] for row in parts.read_rows(run.folder, "doubled"))[:2] == ["p0/0", "p0/1"]
    rejects = {row["id"]: (row["reason"], row["detail"]) for row in parts.read_rejects(run.folder, "doubled")}
    assert rejects["p3"] == ("unlucky", "three")
    assert "ZeroDivisionError: four" in rejects["p4"][1]
    record = (run.folder / "doubled").read_json(DONE)
    assert record["config"] == {"factor": 2}
    assert record["columns"]["id"] == "string"
    assert marks(tmp_path) == {f"p{n}": 1 for n in range(12)}
    assert summary.rows_repeated == summary.tokens_repeated == 0


def test_a_finished_stage_is_skipped_and_an_unfinished_one_resumes(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path)
    run_stage(stage(tmp_path), run)
    rows = sorted(row["id"] for row in parts.read_rows(run.folder, "doubled"))
    run_stage(stage(tmp_path), run)
    assert marks(tmp_path) == {f"p{n}": 1 for n in range(12)}

    (run.folder / "doubled").delete(DONE)
    for folder in (
        run.folder / "doubled",
        run.folder / "doubled" / parts.ATTEMPTS,
        run.folder / "doubled" / parts.REJECTS,
    ):  # as from a worker killed while it wrote
        folder.write_bytes("part-or-attempt.parquet.json.0123abcd.tmp", b"")
    lost = parts.part_names(run.folder, "doubled")[0]
    lost_keys = parts.read_accounts(run.folder, "doubled")[lost].keys
    (run.folder / "doubled").delete(lost)
    summary = run_stage(stage(tmp_path), run)
    assert (summary.rows_in, summary.rows_out) == (12, 20)
    assert sorted(row["id"] for row in parts.read_rows(run.folder, "doubled")) == rows
    assert marks(tmp_path) == {f"p{n}": 2 if f"p{n}" in lost_keys else 1 for n in range(12)}


class Meeting:
    """A row is done when as many are being worked on as may be in flight."""

    def __init__(self, number: int, _: Settings, __: Handles) -> None:
        self._number = number
        self._here = 0
        self._all_here = asyncio.Event()

    async def process(self, row: dict[str, Any]) -> Sequence[BenchmarkSolution]:
        self._here += 1
        if self._here == self._number:
            self._all_here.set()
        await asyncio.wait_for(self._all_here.wait(), 30)
        return [BenchmarkSolution(id=row["id"], problem=row["text"], steps=("a",), label=-1)]


def test_a_resumed_stage_works_on_as_many_blocks_at_a_time(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path)
    engine = ScriptedEngineConfig(script="tests.actors.scripts:solver", num_cpus=1)  # as much as any task of Ray Data's
    meeting = replace(stage(tmp_path), make_worker=partial(Meeting, 6), engine=engine)
    run_stage(meeting, run)
    (run.folder / "doubled").delete(DONE)
    for name in parts.part_names(run.folder, "doubled")[:2]:
        (run.folder / "doubled").delete(name)
    summary = run_stage(meeting, run)
    assert (summary.rows_out, summary.rejects) == (12, {})
    assert len(parts.part_names(run.folder, "doubled")) == 4


def test_a_changed_setting_or_input_is_refused_by_name(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path)
    run_stage(stage(tmp_path), run)
    with pytest.raises(StageRefused, match=r"config\.factor was 2 and is now 3.*--run-dir"):
        run_stage(stage(tmp_path, settings=Settings(factor=3)), run)
    record = (run.folder / "problems").read_json(DONE)
    (run.folder / "problems").write_json(DONE, record | {"contents": "other"})
    with pytest.raises(StageRefused, match=r"inputs\.problems"):
        run_stage(stage(tmp_path), run)


def test_a_folder_with_other_columns_is_refused_in_words(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path)
    run_stage(stage(tmp_path), run)
    plan = (run.folder / "doubled").read_json(parts.PLAN)
    (run.folder / "doubled").write_json(parts.PLAN, plan | {"columns": {"id": "string"}})
    with pytest.raises(StageRefused, match="another version of this project"):
        run_stage(stage(tmp_path), run)


def test_a_row_that_kills_its_worker_is_rejected_and_the_rest_goes_on(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path, rows=9)
    summary = run_stage(stage(tmp_path, deadly="p7"), run)
    assert summary.rejects == {"killed its worker": 1, "unlucky": 1, "error: ZeroDivisionError": 1}
    assert summary.rows_out == 12
    assert marks(tmp_path)["p7"] == 4
    assert 4 * 3 <= summary.rows_repeated <= 4 * 6  # its block of 3 four times, and the block in flight beside it


def test_a_worker_that_can_not_be_built_stops_at_once_with_its_message(tmp_path: Path, local_ray: None) -> None:
    def broken(_: Settings, __: Handles) -> Any:
        raise ValueError("engine.model = 'nowhere': no such model")

    run = begin(tmp_path)
    bad = replace(stage(tmp_path), make_worker=broken, pool=None)
    with pytest.raises(SetupFailed, match="nowhere"):
        run_stage(bad, run)


def test_a_stage_without_rows_keeps_its_schema(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path, rows=0)
    summary = run_stage(stage(tmp_path), run)
    assert (summary.rows_in, summary.rows_out) == (0, 0)
    assert parts.read_rows(run.folder, "doubled") == []


def test_a_row_finished_twice_is_kept_once(tmp_path: Path) -> None:
    run = Folder(str(tmp_path))
    rows = [{"id": key, "text": "t", "answer": "1", "level": None} for key in ("a", "b", "b2", "c")]
    first = PartAccount(keys=["a", "b"], rows_per_key=[1, 2], committed=1.0)
    second = PartAccount(keys=["b", "c", "x"], rows_per_key=[2, 1, 0], rejected={"x": "r"}, committed=2.0)
    third = PartAccount(keys=["x", "y"], rows_per_key=[0, 0], rejected={"x": "r", "y": "r"}, committed=3.0)
    x, y = (RejectedRow(id=name, reason="r", detail="") for name in "xy")
    parts.write_part(run, "s", rows[:3], Problem.schema(), first, [])
    parts.write_part(run, "s", rows[1:], Problem.schema(), second, [x])
    parts.write_part(run, "s", [], Problem.schema(), third, [x, y])
    (run / "s" / parts.REJECTS).write_bytes(f"part-{'0' * 20}.parquet", b"of a worker that died before its part")
    accounts = parts.drop_repeated_keys(run, "s")
    parts.drop_orphans(run, "s")
    assert sorted(key for account in accounts.values() for key in account.keys) == ["a", "b", "c", "x", "y"]
    assert sorted(row["id"] for row in parts.read_rows(run, "s")) == ["a", "b", "b2", "c"]
    assert sorted(row["id"] for row in parts.read_rejects(run, "s")) == ["x", "y"]
    assert parts.summarize(run, "s", accounts, 5).rejects == {"r": 2}
    assert len((run / "s" / parts.REJECTS).names()) == 2


def test_an_unwritable_run_directory_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"--run-dir: can't write"):
        Folder(str(tmp_path / "file" / "run")).create()


def test_a_tracking_server_that_is_down_gives_one_warning_and_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = Tracker(TrackingConfig(uri="http://127.0.0.1:9"), job="test", run=Folder(str(tmp_path)), resolved={"a": 1})
    tracker.metrics({"x": 1.0})
    tracker.results({})
    tracker.close()
    assert capsys.readouterr().err.count("does not work") == 1


@pytest.mark.parametrize(("num_rows", "blocks"), [(1000, 16), (40, 5), (5, 1), (0, 1)])
def test_an_actor_takes_no_more_than_its_share(num_rows: int, blocks: int) -> None:
    assert blocks_in_flight(Pool(num_workers=2, block_rows=4, rows_in_flight=64), num_rows) == blocks


class Broken:
    """A worker whose every row fails."""

    def __init__(self, _: Settings, __: Handles) -> None:
        pass

    async def process(self, row: dict[str, Any]) -> Sequence[BenchmarkSolution]:
        raise EngineError("401: wrong key")


def test_a_stage_whose_every_row_fails_stops_and_can_be_run_again(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path)
    bad = replace(stage(tmp_path), make_worker=Broken)
    with pytest.raises(StageFailed, match="every row failed: 401: wrong key"):
        run_stage(bad, run)
    assert run_stage(stage(tmp_path, settings=Settings(factor=3)), run).rows_out == 20


def test_a_run_directory_serves_one_job_at_a_time(tmp_path: Path) -> None:
    run = Folder(str(tmp_path))
    message = rf"--run-dir = .*another job \(process {os.getpid()}\) is running there"
    with locked(run), pytest.raises(ValueError, match=message), locked(run):
        pass
    with locked(run):
        pass


@pytest.mark.parametrize(("line", "status"), [("exit_at_once()", 0), ("pass", None)])
def test_a_worker_whose_libraries_hang_at_exit_ends_all_the_same(line: str, status: int | None) -> None:
    stuck = "import ctypes; c = ctypes.CDLL(None); c.on_exit(c.pause, None)"  # waits for ever, after Python's end
    code = f"from workflows.stage.actor import exit_at_once; {stuck}; {line}; print('end', flush=True)"
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"end\n"
    try:
        assert worker.wait(2) == status
    except subprocess.TimeoutExpired:
        assert status is None
    finally:
        worker.kill()
        worker.wait()
