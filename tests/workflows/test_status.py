"""A run's status from its directory: while a job runs, when it is over, when it was killed; and what it says of costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from actors.storage import Folder
from genprm.errors import UserError
from tests.jobs.running import ROOT
from workflows import status as statuses
from workflows.stage import heartbeat, parts
from workflows.stage.heartbeat import Heartbeat, read_jobs
from workflows.stage.ledger import Commit, Ledger, Usage
from workflows.stage.terminal import Terminal
from workflows.status import StageStatus, read_status, text


def begin_stage(run: Folder, name: str, *, rows: int, usage: Usage, failures: int = 0) -> None:
    """A stage of which so many rows are done."""
    (run / name).write_json(parts.PLAN, {})
    ledger = Ledger(run / name)
    ledger.use(usage)
    for _ in range(failures):
        ledger.fail("EngineError")
    ledger.commit(
        Commit(part="p", rows_in=rows, rows_out=rows - 1, keys=[f"k{n}" for n in range(rows)], rejected={"k0": "never solved"}, tokens=1500)
    )
    ledger.close()


def stage_of(run: Folder, name: str) -> StageStatus:
    return next(stage for stage in read_status(run).stages if stage.stage == name)


def test_a_directory_without_jobs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no run directory"):
        read_status(Folder(str(tmp_path)))
    done = subprocess.run([sys.executable, "-m", "jobs.status", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.startswith("error: ")) == (2, True)


def test_what_runs_waits_and_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.05)
    run = Folder(str(tmp_path))
    terminal = Terminal("quiet")
    begin_stage(run, "rollouts", rows=4, usage=Usage(cpu_s=10.0, gpu_s=7200.0), failures=3)
    with Heartbeat(run, "synthesize", ["rollouts", "rationales"], terminal):
        before = read_jobs(run)[0].updated
        with terminal.stage("rollouts", done=2, total=20) as progress:
            progress.add(rows=2, rejects=1, tokens=1500)
            progress.num_workers = 3
            while read_jobs(run)[0].updated < before + 0.2:
                pass
            found = stage_of(run, "rollouts")
            shown = text(read_status(run))
    assert (found.state, found.done, found.total, found.num_workers) == ("running", 4, 20, 3)
    assert found.rows_per_s is not None
    assert found.eta_s is not None
    assert found.usage == Usage(cpu_s=10.0, gpu_s=7200.0)
    assert (found.rejects, found.failures) == ({"never solved": 1}, {"EngineError": 3})
    assert "synthesize: running for " in shown
    assert "rollouts: 3 workers; " in shown
    assert "rejected: never solved 1; failed tries: EngineError 3" in " ".join(shown.split())
    assert all(len(line) <= 80 for line in shown.splitlines()[1:] if not line.startswith("synthesize"))
    (job,) = read_jobs(run)
    assert (job.outcome, job.is_alive) == ("finished", False)
    assert (stage_of(run, "rollouts").state, stage_of(run, "rationales").state) == ("stopped", "waiting")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("stage x stopped\nand more"), "train: failed 0 s ago after 0 s: stage x stopped"),
        (KeyboardInterrupt(), "train: interrupted 0 s ago after 0 s"),
    ],
)
def test_how_a_job_ended(tmp_path: Path, error: BaseException, line: str) -> None:
    run = Folder(str(tmp_path))
    with pytest.raises(type(error)), Heartbeat(run, "train", ["train/genprm"], Terminal("quiet")):
        raise error
    assert text(read_status(run)).splitlines()[1] == line


def test_a_job_that_was_killed_has_no_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Folder(str(tmp_path))
    with Heartbeat(run, "train", ["train/genprm"], Terminal("quiet")):
        alive = (run / heartbeat.STATUS).read_json("train.json")
    (run / heartbeat.STATUS).write_json("train.json", {**alive, "updated": alive["updated"] - 65})
    assert read_jobs(run)[0].is_alive is False
    assert "train: no heartbeat for 1:05, it was killed or its node is gone (process" in text(read_status(run))


def test_a_status_that_can_not_be_written_is_said_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Folder, "write_json", full)
    with Heartbeat(Folder(str(tmp_path)), "train", [], Terminal("quiet")):
        pass
    assert capsys.readouterr().err.count("can't be written") == 1


def test_what_a_kept_conversation_costs(tmp_path: Path) -> None:
    made = [
        StageStatus(stage="rollouts", state="finished", tokens=9_000, usage=Usage(gpu_s=30.0)),
        StageStatus(stage="estimates/paper", state="finished", tokens=1_000, usage=Usage(gpu_s=10.0)),
        StageStatus(stage="evaluate/v/b", state="finished", tokens=10**9),
        StageStatus(stage="conversations/rpe", state="finished", rows_out=20),
    ]
    status = statuses.RunStatus(run="r", jobs=[], stages=made)
    assert "conversations/rpe: 20 conversations kept, 500 tokens and 2 GPU seconds each" in text(status)
    assert json.loads(json.dumps(statuses.as_json(status)))["usage"] == {"cpu_s": 0.0, "gpu_s": 40.0}
