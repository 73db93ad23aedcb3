"""The stage mechanism on a real local Ray: results, resume, refusal, rejects, workers that die or can't be built."""

from __future__ import annotations

import asyncio
import contextlib
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

from actors.engine.config import ScriptedEngineConfig
from actors.remote import Handles
from actors.storage import Folder
from genprm.errors import UserError
from genprm.records import BenchmarkSolution, Problem
from genprm.section import Section
from workflows.stage import parts
from workflows.stage.errors import Reject, SetupFailed, StageRefused
from workflows.stage.graph import run_stage
from workflows.stage.ledger import Ledger
from workflows.stage.limits import FailureLimits
from workflows.stage.links import DONE, source
from workflows.stage.lock import locked
from workflows.stage.pool import Pool
from workflows.stage.retry import retry, stage_and_reason
from workflows.stage.row_stage import RowStage
from workflows.stage.run import Run
from workflows.stage.stage import TableStage
from workflows.stage.tracking import Tracker, TrackingConfig

pytestmark = pytest.mark.ray

QUICK = FailureLimits(first_pause_s=0.02, longest_pause_s=0.1, row_attempts=3)
NO_POOL: dict[str, Any] = {"pool": None}
ENGINE = ScriptedEngineConfig(script="tests.actors.scripts:solver", num_cpus=0.5)


class Settings(Section):
    factor: int = 2


class Doubler:
    """problem n -> two rows; leaves a mark for every row that it works on. ``deadly`` kills it, until the file ``mended`` is there."""

    def __init__(self, folder: str, deadly: str, _: Settings, __: Handles) -> None:
        self._folder = Path(folder)
        self._deadly = deadly

    async def process(self, row: dict[str, Any]) -> Sequence[BenchmarkSolution]:
        with (self._folder / "marks" / row["id"]).open("a") as stream:
            stream.write("x")
        is_mended = (self._folder / "mended").exists()
        if row["id"] == self._deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if row["id"] == "p3" and not is_mended:
            raise Reject("unlucky", "three")
        if row["id"] == "p4" and not is_mended:
            raise ZeroDivisionError("four")
        return [BenchmarkSolution(id=f"{row['id']}/{n}", problem=row["text"], steps=("a",), label=-1) for n in range(2)]


def begin(folder: Path, rows: int = 12) -> Run:
    return begin_in(Folder(str(folder / "run")), folder, rows)


def begin_in(place: Folder, folder: Path, rows: int) -> Run:
    """A run with problems; ``folder`` takes the marks of workers."""
    run = Run.untracked(place)
    problems = [Problem(id=f"p{n}", text=f"text {n}", answer=str(n), level=None) for n in range(rows)]
    run_stage(TableStage(name="problems", writes=Problem, settings=Section(), make_rows=lambda _: problems), run)
    (folder / "marks").mkdir(exist_ok=True)
    return run


def stage(folder: Path, *, deadly: str = "", settings: Section | None = None, **changes: Any) -> RowStage:
    made = RowStage(
        name="doubled",
        reads=("problems",),
        key="id",
        writes=BenchmarkSolution,
        make_worker=partial(Doubler, str(folder), deadly),
        settings=settings or Settings(),
        pool=Pool(commit_rows=3, rows_in_flight=6),
        limits=QUICK,
    )
    return replace(made, **changes)


def marks(folder: Path) -> dict[str, int]:
    return {file.name: len(file.read_text()) for file in (folder / "marks").iterdir()}


def ids(run: Run, name: str = "doubled") -> list[str]:
    return sorted(row["id"] for row in parts.read_rows(run.folder, name))


@pytest.mark.parametrize("light", [False, True])
def test_rows_rejects_and_totals(tmp_path: Path, local_ray: None, light: bool) -> None:
    run = begin(tmp_path)
    summary = run_stage(stage(tmp_path, **(NO_POOL if light else {})), run)
    assert (summary.rows_in, summary.rows_out) == (12, 20)
    assert summary.rejects == {"unlucky": 1, "error: ZeroDivisionError": 1}
    assert ids(run)[:2] == ["p0/0", "p0/1"]
    rejects = {row["id"]: (row["reason"], row["detail"]) for row in parts.read_rejects(run.folder, "doubled")}
    assert rejects["p3"] == ("unlucky", "three")
    assert "ZeroDivisionError: four" in rejects["p4"][1]  # with its traceback
    record = (run.folder / "doubled").read_json(DONE)
    assert record["config"] == {"factor": 2}
    assert record["columns"]["id"] == "string"
    assert [file["num_rows"] for file in record["files"]] == [20]
    assert (run.folder / "doubled").names() == ["_plan.json", "_stage.json", "part-00-00000.parquet"]
    assert not Path(run.folder.uri, "doubled", parts.PARTS).exists()
    assert marks(tmp_path) == {f"p{n}": (1 if light else 3) if n == 4 else 1 for n in range(12)}
    assert summary.rows_repeated == summary.tokens_repeated == 0


def unfinish(run: Run, name: str, keep: int) -> None:
    """As if the driver had died after ``keep`` entries of the ledger."""
    folder = run.folder / name
    folder.delete(DONE)
    ledger = folder / "_ledger"
    lines = [line for segment in ledger.names() for line in ledger.read_bytes(segment).splitlines(keepends=True)]
    for segment in ledger.names():
        ledger.delete(segment)
    ledger.write_bytes("00000000.jsonl", b"".join(lines[:keep]))


def test_a_finished_stage_is_skipped_and_an_unfinished_one_resumes(
    tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(tmp_path)
    monkeypatch.setattr("workflows.stage.compaction.remove", lambda *_: None)  # so that the parts are still there
    run_stage(stage(tmp_path), run)
    monkeypatch.undo()
    before, contents = ids(run), (run.folder / "doubled").read_json(DONE)["contents"]
    run_stage(stage(tmp_path), run)
    assert marks(tmp_path) == {f"p{n}": 3 if n == 4 else 1 for n in range(12)}

    unfinish(run, "doubled", keep=2)
    done = Ledger.read(run.folder / "doubled")
    assert 0 < done.rows_in < 12
    (tmp_path / "marks").rename(tmp_path / "before")
    (tmp_path / "marks").mkdir()
    (run.folder / "doubled").write_bytes(f"{parts.PARTS}/part-0123.parquet.0123abcd.tmp", b"of a worker killed while it wrote")
    summary = run_stage(stage(tmp_path), run)
    assert (summary.rows_in, summary.rows_out) == (12, 20)
    assert ids(run) == before
    assert (run.folder / "doubled").read_json(DONE)["contents"] == contents
    assert len(marks(tmp_path)) == 12 - done.rows_in
    assert not Path(run.folder.uri, "doubled", parts.PARTS).exists()


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


def test_a_worker_works_on_as_many_rows_at_a_time(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path)
    engine = ScriptedEngineConfig(script="tests.actors.scripts:solver", num_cpus=1)  # as much as any task of Ray Data's
    summary = run_stage(stage(tmp_path, make_worker=partial(Meeting, 6), engine=engine), run)
    assert (summary.rows_out, summary.rejects) == (12, {})


class Slow:
    """One row is not done before 30 others are."""

    def __init__(self, _: Settings, __: Handles) -> None:
        self._done = 0
        self._enough = asyncio.Event()

    async def process(self, row: dict[str, Any]) -> Sequence[BenchmarkSolution]:
        if row["id"] == "p0":
            await asyncio.wait_for(self._enough.wait(), 30)
        self._done += 1
        if self._done == 30:
            self._enough.set()
        return [BenchmarkSolution(id=row["id"], problem=row["text"], steps=("a",), label=-1)]


def test_a_slow_row_holds_no_other(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path, rows=40)
    pool = Pool(commit_rows=4, rows_in_flight=2)
    assert run_stage(stage(tmp_path, make_worker=Slow, pool=pool), run).rows_out == 40


def test_a_changed_setting_or_input_is_refused_by_name(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path)
    run_stage(stage(tmp_path, pool=None), run)
    with pytest.raises(StageRefused, match=r"config\.factor was 2 and is now 3.*--run-dir"):
        run_stage(stage(tmp_path, settings=Settings(factor=3)), run)
    record = (run.folder / "problems").read_json(DONE)
    (run.folder / "problems").write_json(DONE, record | {"contents": "other"})
    with pytest.raises(StageRefused, match=r"inputs\.problems"):
        run_stage(stage(tmp_path), run)
    plan = (run.folder / "doubled").read_json(parts.PLAN)
    (run.folder / "doubled").write_json(parts.PLAN, plan | {"columns": {"id": "string"}})
    with pytest.raises(StageRefused, match="another version of this project"):
        run_stage(stage(tmp_path), run)
    for name in (parts.PLAN, DONE):  # as it was before there were ledgers
        record = (run.folder / "doubled").read_json(name)
        del record["format"]
        (run.folder / "doubled").write_json(name, record)
    with pytest.raises(StageRefused, match="an earlier version of this project"):
        run_stage(stage(tmp_path), run)
    with pytest.raises(UserError, match="an earlier version of this project"):
        source(f"{run.folder.uri}:doubled", "doubled", "reuse")


def test_rejected_rows_are_retried_and_what_reads_them_gets_the_new_ones(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path)
    doubled = stage(tmp_path, pool=None)
    copied = RowStage(
        name="copied", reads=("doubled",), key="id", writes=BenchmarkSolution, settings=Section(),
        make_worker=partial(Copier, str(tmp_path)),
        limits=QUICK,
    )  # fmt: skip
    listed = TableStage(
        name="listed", reads=("copied",), writes=Problem, settings=Section(),
        make_rows=lambda run: [Problem(id=name, text="t", answer="1", level=None) for name in ids(run, "copied")],
    )  # fmt: skip
    stages = [doubled, copied, listed]
    for one in stages:
        run_stage(one, run)
    assert (len(ids(run, "copied")), len(ids(run, "listed")), marks(tmp_path)["copied"]) == (20, 20, 20)

    with pytest.raises(ValueError, match="no rejected row has such a reason; there are: 'unlucky' \\(1\\)"):
        retry(stages, "doubled", "engine", run)
    (tmp_path / "mended").touch()
    name, reason = stage_and_reason("doubled:error", stages)
    assert retry(stages, name, reason, run) == "doubled: 1 rejected rows are processed again, then copied, listed"
    for one in stages:
        run_stage(one, run)
    assert marks(tmp_path)["p4"] == 2
    assert marks(tmp_path)["p3"] == marks(tmp_path)["p5"] == 1
    assert marks(tmp_path)["copied"] == 22  # two more rows, not all again
    assert len(ids(run, "listed")) == 22
    assert [row["id"] for row in parts.read_rejects(run.folder, "doubled")] == ["p3"]
    assert (run.folder / "doubled").names(prefix="part-") == ["part-01-00000.parquet"]


class Copier:
    def __init__(self, folder: str, _: Section, __: Handles) -> None:
        self._marks = Path(folder) / "marks" / "copied"

    async def process(self, row: dict[str, Any]) -> Sequence[BenchmarkSolution]:
        with self._marks.open("a") as stream:
            stream.write("x")
        return [BenchmarkSolution.of(row)]


def test_a_retry_makes_again_what_was_judged_by_a_model_that_is_trained_again(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path)
    trained = TableStage(
        name="trained", reads=("doubled",), writes=Problem, settings=Section(),
        make_rows=lambda run: [Problem(id=name, text="t", answer="1", level=None) for name in ids(run)],
    )  # fmt: skip
    judged = stage(tmp_path, name="judged", after=("trained",), make_worker=partial(Doubler, str(tmp_path), ""))
    doubled = stage(tmp_path)
    stages = [doubled, trained, judged]
    for one in stages:
        run_stage(one, run)
    assert marks(tmp_path)["p5"] == 2
    (tmp_path / "mended").touch()
    assert retry(stages, "doubled", "unlucky", run) == "doubled: 1 rejected rows are processed again, then trained, judged"
    for one in stages:
        run_stage(one, run)
    assert marks(tmp_path)["p5"] == 3  # not in doubled, but in judged: its rows were those of another model
    assert (len(ids(run, "trained")), len(ids(run, "judged"))) == (22, 24)


def test_a_row_that_kills_its_workers_is_found_by_halving(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path, rows=9)
    summary = run_stage(stage(tmp_path, deadly="p7"), run)
    assert summary.rejects == {"killed its worker": 1, "unlucky": 1, "error: ZeroDivisionError": 1}
    assert summary.rows_out == 12
    deaths = marks(tmp_path)["p7"]
    assert deaths <= 5  # of 6 rows in flight: 6, 3, 2 or 1, and twice alone
    assert deaths <= summary.rows_repeated <= 6 + 3 + 2 + 1 + 1 + 3
    assert all(count <= 4 for key, count in marks(tmp_path).items() if key not in ("p7", "p4"))


def test_a_worker_that_can_not_be_built_stops_at_once_with_its_message(tmp_path: Path, local_ray: None) -> None:
    def broken(_: Settings, __: Handles) -> Any:
        raise ValueError("engine.model = 'nowhere': no such model")

    run = begin(tmp_path)
    with pytest.raises(SetupFailed, match=r"stage doubled can't start: engine.model = 'nowhere': no such model"):
        run_stage(stage(tmp_path, make_worker=broken), run)


class Choosy:
    """Only one of several workers can be built."""

    def __init__(self, folder: str, _: Settings, __: Handles) -> None:
        with contextlib.suppress(FileExistsError):
            (Path(folder) / "built").mkdir()
            return
        raise OSError("no such device")

    async def process(self, row: dict[str, Any]) -> Sequence[BenchmarkSolution]:
        await asyncio.sleep(0.05)
        return [BenchmarkSolution(id=row["id"], problem=row["text"], steps=("a",), label=-1)]


def test_a_worker_that_can_not_be_built_does_not_end_a_stage_that_has_others(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path)
    pool = Pool(num_workers=2, rows_in_flight=1, commit_rows=1)
    summary = run_stage(stage(tmp_path, make_worker=partial(Choosy, str(tmp_path)), pool=pool, engine=ENGINE), run)
    assert (summary.rows_out, summary.rejects) == (12, {})


def test_a_stage_without_rows_keeps_its_schema(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path, rows=0)
    summary = run_stage(stage(tmp_path), run)
    assert (summary.rows_in, summary.rows_out) == (0, 0)
    assert parts.read_rows(run.folder, "doubled") == []
    assert [table.column_names for table in parts.iterate(run.folder, "doubled")] in ([], [["id", "problem", "steps", "label"]])


def test_what_dies_while_parts_are_merged_loses_nothing(tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(tmp_path)

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    for step in ("workflows.stage.ledger.Ledger.compact", "workflows.stage.compaction.remove", "workflows.stage.record.StageSummary.of"):
        monkeypatch.setattr(step, dies)  # before the ledger has the files, before the parts are deleted, before the record is written
        with pytest.raises(KeyboardInterrupt):
            run_stage(stage(tmp_path), run)
        monkeypatch.undo()
    assert not parts.is_finished(run.folder, "doubled")
    assert len(ids(run)) == 20
    summary = run_stage(stage(tmp_path), run)
    assert (summary.rows_in, summary.rows_out) == (12, 20)
    assert len(ids(run)) == 20
    assert sum(marks(tmp_path).values()) == 11 + 3


def test_a_finished_stage_is_read_by_other_tools(tmp_path: Path, local_ray: None) -> None:
    from datasets import load_dataset

    run = begin(tmp_path)
    run_stage(stage(tmp_path), run)
    pattern = f"{run.folder.uri}/doubled/*.parquet"
    rows = load_dataset("parquet", data_files=pattern, split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(rows["id"]) == ids(run)


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


@pytest.mark.parametrize(("value", "least", "most"), [(3, 3, 3), ("2-8", 2, 8), ("all", 1, None), ("4", 4, 4)])
def test_the_number_of_workers_is_a_number_a_range_or_all(value: int | str, least: int, most: int | None) -> None:
    pool = Pool(num_workers=value)
    assert (pool.least, pool.most) == (least, most)


@pytest.mark.parametrize("value", [0, "8-2", "some", "0-3", -1])
def test_another_number_of_workers_is_refused(value: int | str) -> None:
    with pytest.raises(ValueError, match='a range like "2-8", or "all"'):
        Pool(num_workers=value)


def test_a_run_directory_serves_one_job_at_a_time(tmp_path: Path) -> None:
    run = Folder(str(tmp_path))
    message = rf"--run-dir = .*another job \(process {os.getpid()} on .*\) is running there"
    with locked(run), pytest.raises(ValueError, match=message), locked(run):
        pass
    with locked(run):
        pass


@pytest.mark.parametrize(("line", "status"), [("exit_at_once()", 0), ("pass", None)])
def test_a_worker_whose_libraries_hang_at_exit_ends_all_the_same(line: str, status: int | None) -> None:
    stuck = "import ctypes; c = ctypes.CDLL(None); c.on_exit(c.pause, None)"  # waits for ever, after Python's end
    code = f"from workflows.stage.worker import exit_at_once; {stuck}; {line}; print('end', flush=True)"
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
