"""What fails around a row loses no row and rejects none: endpoints that are down, workers on which nothing works, exceptions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayTaskError

from actors.code_executor import CodeRefused
from actors.engine import ContextOverflow, EngineError, RequestRefused
from actors.engine.config import ScriptedEngineConfig
from actors.remote import ActorLost, Handles
from cluster import interrupts
from genprm.records import BenchmarkSolution
from genprm.section import Section
from tests.workflows.stage.endpoint import Asker, serving
from tests.workflows.stage.node_death import NUM_ROWS
from tests.workflows.stage.test_row_stage import NO_POOL, begin, ids, stage
from workflows.benchmarks.free_port import free_port
from workflows.stage import parts
from workflows.stage.errors import Reject, SetupFailed, StageFailed
from workflows.stage.failures import Failure, Kind, Window, failure_of
from workflows.stage.graph import run_stage, run_stages
from workflows.stage.ledger import Ledger
from workflows.stage.limits import FailureLimits
from workflows.stage.pool import Pool

QUICK = FailureLimits(first_pause_s=0.02, longest_pause_s=0.2, row_attempts=3, patience_s=60.0)
LIGHT_ENGINE = ScriptedEngineConfig(script="tests.actors.scripts:solver", num_cpus=0.5)


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (Reject("never solved"), Kind.DATA, "never solved"),
        (ContextOverflow("9 tokens"), Kind.DATA, "context overflow"),
        (RequestRefused("400"), Kind.DATA, "engine refused"),
        (EngineError("500"), Kind.TRANSIENT, "EngineError"),
        (ActorLost("gone"), Kind.TRANSIENT, "ActorLost"),
        (CodeRefused("no process"), Kind.TRANSIENT, "CodeRefused"),
        (ConnectionResetError(), Kind.TRANSIENT, "ConnectionResetError"),
        (OSError(28, "No space left on device"), Kind.TRANSIENT, "OSError"),
        (TimeoutError(), Kind.TRANSIENT, "TimeoutError"),
        (KeyError("x"), Kind.UNKNOWN, "error: KeyError"),
    ],
)
def test_three_kinds(error: Exception, kind: Kind, reason: str) -> None:
    failure = failure_of(error)
    assert (failure.kind, failure.reason) == (kind, reason)


def test_what_another_actor_raised_counts_as_what_it_is() -> None:
    for cause, kind in ((TypeError("x"), Kind.UNKNOWN), (ContextOverflow("x"), Kind.DATA), (EngineError("x"), Kind.TRANSIENT)):
        error = RayTaskError("generate", "traceback", cause).as_instanceof_cause()
        assert isinstance(error, Exception)
        assert failure_of(error).kind is kind


def test_a_window_bears_failures_as_long_as_others_succeed() -> None:
    failure = Failure(kind=Kind.TRANSIENT, reason="EngineError", detail="500")
    window = Window(FailureLimits(patience_s=0.2))
    for _ in range(100):
        window.succeed(1)
        window.fail(failure)
    window.check("s", stuck=False, num_left=7)
    time.sleep(0.25)
    window.fail(failure)
    window.check("s", stuck=False, num_left=7)  # another worker may still be at work on long rows
    with pytest.raises(StageFailed, match=r"none of the 7 rows that are left could be processed for 0\.2 s, last with EngineError: 500"):
        window.check("s", stuck=True, num_left=7)


def try_for_long(window: Window) -> None:
    """Three of four tries fail."""
    for _ in range(300):
        window.succeed(1)
        for _ in range(3):
            window.fail(Failure(kind=Kind.TRANSIENT, reason="EngineError", detail="500"))
        window.check("s", stuck=False, num_left=7)
        time.sleep(0.01)


def test_a_window_stops_at_too_large_a_share() -> None:
    window = Window(FailureLimits(patience_s=0.5, max_share=0.5))
    began = time.monotonic()
    with pytest.raises(StageFailed, match=r"% of .* tries of rows in 0\.5 s failed \(failures\.max_share = 0\.5\)"):
        try_for_long(window)
    assert time.monotonic() - began >= 0.5


@pytest.mark.ray
def test_an_endpoint_that_is_down_for_a_while_costs_no_row(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path, rows=300)
    with serving(free_port(), latency_s=0.05) as endpoint:
        asking = stage(tmp_path, make_worker=partial(Asker, endpoint.url), pool=Pool(rows_in_flight=16, commit_rows=8), limits=QUICK)

        def outage() -> None:
            while len(endpoint.answered) < 100:
                time.sleep(0.01)
            endpoint.down()
            time.sleep(4)
            endpoint.up()

        thread = threading.Thread(target=outage)
        thread.start()
        summary = run_stage(asking, run)
        thread.join()
        assert (summary.rows_in, summary.rows_out, summary.rejects) == (300, 300, {})
        assert sum(endpoint.answered.values()) <= 300 + 16  # those in flight when it went down may have been answered unheard


@pytest.mark.ray
def test_an_endpoint_that_stays_down_stops_the_stage_which_then_resumes(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path, rows=60)
    limits = QUICK.model_copy(update={"patience_s": 2.0})
    with serving(free_port(), latency_s=0.02) as endpoint:
        asking = stage(tmp_path, make_worker=partial(Asker, endpoint.url), pool=Pool(rows_in_flight=4, commit_rows=4), limits=limits)

        def outage() -> None:
            while len(endpoint.answered) < 20:
                time.sleep(0.01)
            endpoint.down()

        thread = threading.Thread(target=outage)
        thread.start()
        with pytest.raises(StageFailed, match=r"rows that are left could be processed for 2 s, last with EngineError: http"):
            run_stage(asking, run)
        thread.join()
        done = Ledger.read(run.folder / "doubled")
        assert done.rows_in >= 12
        assert not done.rejects
        endpoint.up()
        assert run_stage(asking, run).rows_out == 60
        assert sum(endpoint.answered.values()) <= 60 + 8


@pytest.mark.ray
def test_rows_that_the_endpoint_refuses_are_rejected_and_rows_that_it_fails_are_not(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path)
    with serving(free_port()) as endpoint:
        endpoint.refuses, endpoint.fails = {"p2"}, {"p5", "p7"}
        limits = QUICK.model_copy(update={"patience_s": 2.0})
        asking = stage(tmp_path, make_worker=partial(Asker, endpoint.url), limits=limits)
        with pytest.raises(StageFailed, match=r"none of the 2 rows that are left could be processed for 2 s, last with EngineError"):
            run_stage(asking, run)
        assert Ledger.read(run.folder / "doubled").rejects == {"engine refused": 1}
        endpoint.fails.clear()
        summary = run_stage(asking, run)
        assert (summary.rows_out, summary.rejects) == (11, {"engine refused": 1})
        assert max(endpoint.answered.values()) == 1


class Half:
    """The first worker that is built fails at everything; counts what each gets."""

    def __init__(self, folder: str, _: Section, __: Handles) -> None:
        self._folder = Path(folder)
        self._is_broken = False
        with contextlib.suppress(FileExistsError):
            (self._folder / "broken").mkdir()
            self._is_broken = True

    async def process(self, row: dict[str, Any]) -> Sequence[BenchmarkSolution]:
        with (self._folder / ("bad" if self._is_broken else "good")).open("a") as stream:
            stream.write(f"{row['id']}\n")
        if self._is_broken:
            raise EngineError("CUDA error: device-side assert triggered")
        await asyncio.sleep(0.02)
        return [BenchmarkSolution(id=row["id"], problem=row["text"], steps=("a",), label=-1)]


@pytest.mark.ray
def test_a_worker_on_which_nothing_works_takes_a_handful_of_rows(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path, rows=400)
    pool = Pool(num_workers=2, rows_in_flight=32, commit_rows=16)
    summary = run_stage(stage(tmp_path, make_worker=partial(Half, str(tmp_path)), pool=pool, engine=LIGHT_ENGINE, limits=QUICK), run)
    assert (summary.rows_out, summary.rejects) == (400, {})
    good, bad = (Counter((tmp_path / name).read_text().split()) for name in ("good", "bad"))
    assert sum(bad.values()) <= 12  # four at once, then one at a time
    assert sum(good.values()) == 400


class Buggy:
    """Raises for every n-th row."""

    def __init__(self, every: int, _: Section, __: Handles) -> None:
        self._every = every

    async def process(self, row: dict[str, Any]) -> Sequence[BenchmarkSolution]:
        if int(row["id"][1:]) % self._every == 0:
            raise KeyError(row["id"])
        return [BenchmarkSolution(id=row["id"], problem=row["text"], steps=("a",), label=-1)]


@pytest.mark.ray
@pytest.mark.parametrize("light", [False, True])
def test_a_few_rows_may_raise_what_nobody_foresaw_and_no_more(tmp_path: Path, local_ray: None, light: bool) -> None:
    run = begin(tmp_path, rows=60)
    changes = NO_POOL if light else {}
    limits = QUICK.model_copy(update={"unknown_rows": 3})
    with pytest.raises(StageFailed, match=r"(?s)failures.unknown_rows = 3.*KeyError: 'p"):
        run_stage(stage(tmp_path, make_worker=partial(Buggy, 10), limits=limits, **changes), run)
    limits = QUICK.model_copy(update={"unknown_rows": 6})
    summary = run_stage(stage(tmp_path, make_worker=partial(Buggy, 10), limits=limits, **changes), run)
    assert (summary.rows_out, summary.rejects) == (54, {"error: KeyError": 6})
    assert all("KeyError: 'p" in row["detail"] for row in parts.read_rejects(run.folder, "doubled"))


@pytest.mark.ray
def test_a_bug_in_every_row_stops_at_once(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path, rows=100)
    with pytest.raises(StageFailed, match=r"(?s)the first .* tries of rows failed, last with error: KeyError: Traceback"):
        run_stage(stage(tmp_path, make_worker=partial(Buggy, 1), limits=QUICK.model_copy(update={"row_attempts": 50})), run)
    assert not Ledger.read(run.folder / "doubled").rejects


class Dying:
    """Its process ends at once, whatever the row."""

    def __init__(self, _: Section, __: Handles) -> None:
        pass

    async def process(self, row: dict[str, Any]) -> Sequence[BenchmarkSolution]:
        os._exit(1)


@pytest.mark.ray
def test_workers_that_die_of_every_row_reject_few(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path, rows=2)
    limits = QUICK.model_copy(update={"unknown_rows": 0})
    with pytest.raises(StageFailed, match=r"more than failures.unknown_rows = 0 rows killed workers, last p"):
        run_stage(stage(tmp_path, make_worker=Dying, limits=limits), run)
    assert not Ledger.read(run.folder / "doubled").rejects


class Frail:
    """One row kills every worker; the first two tries of any other fail."""

    def __init__(self, folder: str, _: Section, __: Handles) -> None:
        self._folder = Path(folder)

    async def process(self, row: dict[str, Any]) -> Sequence[BenchmarkSolution]:
        await asyncio.sleep(0.01)
        if row["id"] == "p2":
            os._exit(1)
        with (self._folder / row["id"]).open("a") as stream:
            stream.write("x")
        if (self._folder / row["id"]).stat().st_size <= 2:
            raise EngineError("503")
        return [BenchmarkSolution(id=row["id"], problem=row["text"], steps=("a",), label=-1)]


@pytest.mark.ray
def test_a_row_that_kills_workers_is_found_among_workers_that_fail(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path, rows=4)
    limits = QUICK.model_copy(update={"worker_failures": 2, "patience_s": 30.0})
    pool = Pool(rows_in_flight=4, commit_rows=2)
    summary = run_stage(stage(tmp_path, make_worker=partial(Frail, str(tmp_path)), pool=pool, limits=limits), run)
    assert (summary.rows_in, summary.rows_out, summary.rejects) == (4, 3, {"killed its worker": 1})


@pytest.mark.ray
def test_a_part_that_can_not_be_written_is_no_reject(tmp_path: Path, local_ray: None) -> None:
    run = begin(tmp_path)
    limits = QUICK.model_copy(update={"patience_s": 1.0})
    folder = Path(run.folder.uri, "doubled")
    folder.mkdir()
    (folder / parts.PARTS).write_text("in the way of the folder")  # what a disk does that fails
    with pytest.raises(StageFailed, match=r"FileExistsError|NotADirectoryError|can't be written down"):
        run_stage(stage(tmp_path, make_worker=partial(Buggy, 100), limits=limits), run)
    (folder / parts.PARTS).unlink()
    summary = run_stage(stage(tmp_path, make_worker=partial(Buggy, 100)), run)
    assert (summary.rows_in, summary.rows_out) == (12, 11)
    assert len(ids(run)) == 11


@pytest.mark.slow
def test_a_node_that_loses_power_costs_what_was_in_flight_and_no_row_is_blamed(tmp_path: Path) -> None:
    script = "tests.workflows.stage.node_death"
    done = subprocess.run([sys.executable, "-m", script, str(tmp_path)], capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["rows"] == sorted(f"p{n}" for n in range(NUM_ROWS))
    assert result["rejects"] == {}
    assert any(
        re.search(r"worker \d+ died \((its node is gone|its node was preempted|it can't be reached)\)", line) for line in result["warnings"]
    )
    assert 1 <= result["repeated"] < NUM_ROWS / 4  # in flight on one of two workers, and done but not committed
    assert NUM_ROWS <= result["done"] <= NUM_ROWS + result["repeated"]


class Stopped:
    """Stops its own process in the row that it is told, once."""

    def __init__(self, folder: str, _: Section, __: Handles) -> None:
        self._folder = Path(folder)

    async def process(self, row: dict[str, Any]) -> Sequence[BenchmarkSolution]:
        if row["id"] == "p20" and not (self._folder / "stopped").exists():
            (self._folder / "stopped").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        return [BenchmarkSolution(id=row["id"], problem=row["text"], steps=("a",), label=-1)]


@pytest.mark.ray
def test_a_worker_whose_process_is_stopped_is_replaced_and_no_row_is_blamed(
    tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin(tmp_path, rows=60)
    limits = QUICK.model_copy(update={"silence_s": 4.0})
    pool = Pool(num_workers=2, rows_in_flight=4, commit_rows=4)
    summary = run_stage(stage(tmp_path, make_worker=partial(Stopped, str(tmp_path)), pool=pool, limits=limits), run)
    assert (summary.rows_in, summary.rows_out, summary.rejects) == (60, 60, {})
    assert ids(run) == sorted(f"p{n}" for n in range(60))
    assert summary.rows_repeated > 0
    assert "it said nothing for failures.silence_s = 4 s" in capsys.readouterr().err
    stopped = int((tmp_path / "stopped").read_text())
    until = time.monotonic() + 20
    while Path(f"/proc/{stopped}").exists() and "Z" not in Path(f"/proc/{stopped}/stat").read_text().rpartition(")")[2]:
        assert time.monotonic() < until  # it must not keep its memory
        time.sleep(0.1)


@pytest.mark.ray
def test_ray_data_waits_for_engines_however_long_they_take(local_ray: None) -> None:
    import ray.data

    assert ray.data.DataContext.get_current().execution_no_progress_timeout_s == -1


class Stuck:
    """Is done with every row but one at once."""

    def __init__(self, folder: str, _: Section, __: Handles) -> None:
        self._done = Path(folder) / "done"

    async def process(self, row: dict[str, Any]) -> Sequence[BenchmarkSolution]:
        if row["id"] == "p0":
            await asyncio.sleep(60)
        with self._done.open("a") as stream:
            stream.write("x")
        return [BenchmarkSolution(id=row["id"], problem=row["text"], steps=("a",), label=-1)]


@pytest.mark.ray
def test_what_is_done_when_a_job_is_interrupted_is_committed(tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(tmp_path, rows=20)
    pool = Pool(rows_in_flight=4, commit_rows=1000, commit_s=60.0)
    first, second = (stage(tmp_path, name=name, make_worker=partial(Stuck, str(tmp_path)), pool=pool) for name in ("first", "second"))

    def interrupt() -> None:
        while not (tmp_path / "done").exists() or (tmp_path / "done").stat().st_size < 2 * 19:
            time.sleep(0.05)
        monkeypatch.setattr(interrupts, "_asked", signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_stages([first, second], run)  # side by side; both are waited for
    assert [Ledger.read(run.folder / name).rows_in for name in ("first", "second")] == [19, 19]


@pytest.mark.ray
def test_what_an_autoscaler_may_bring_is_waited_for_and_said(tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(tmp_path)
    engine = ScriptedEngineConfig(script="tests.actors.scripts:solver", num_cpus=64)
    large = stage(tmp_path, make_worker=partial(Buggy, 100), engine=engine)
    with pytest.raises(SetupFailed, match=r"stage doubled needs 65 CPU, of which there are 8; lower engines"):
        run_stage(large, run)
    monkeypatch.setattr("workflows.stage.graph.growable", lambda: [{"CPU": 128.0}])
    monkeypatch.setattr("workflows.stage.workers.WAITING_EVERY_S", 0.5)
    said: list[str] = []

    def warn(text: str) -> None:
        said.append(text)
        monkeypatch.setattr(interrupts, "_asked", signal.SIGINT)

    monkeypatch.setattr(run.terminal, "warn", warn)
    with pytest.raises(KeyboardInterrupt):
        run_stage(large, run)
    assert said == ["doubled: waiting for a worker to start, which needs 64 CPU"]
