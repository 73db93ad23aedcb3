"""A real Slurm of three virtual hosts: the batch script runs a job to its end, and one that is requeued on the way resumes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.storage import Folder
from tests.jobs.running import ROOT
from tests.on_hosts.hosts import NETWORK, Host, hosts
from tests.on_hosts.test_plain_cluster import STAGES, command, finished
from workflows.stage import parts

pytestmark = pytest.mark.hosts

NAMES = ("head", "one", "two")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
CONFIGURATION = """ClusterName=test
SlurmctldHost=head({network}.1)
AuthType=auth/munge
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=/run/slurmctld
SlurmdSpoolDir=/run/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
KillWait=10
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
BOOT = """
mount -t tmpfs tmpfs /run && mkdir -p /run/munge /run/slurmctld /run/slurmd && chmod 755 /run/munge && chown munge:munge /run/munge
setpriv --reuid=munge --regid=munge --clear-groups munged --force --pid-file=/run/munge/pid --seed-file=/run/munge/seed \\
  --log-file=/run/munge/log
mkdir -p /etc/slurm && mount -t tmpfs tmpfs /etc/slurm && cp "$1"/*.conf /etc/slurm/
sleep 1
[ "$(hostname)" = head ] && slurmctld && sleep 2
exec slurmd -D
"""


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Host]:
    """The host of the controller."""
    if not all(shutil.which(name, path=ENVIRONMENT["PATH"]) for name in ("slurmctld", "slurmd", "sbatch", "munged")):
        pytest.skip("Slurm is not installed (Debian: slurmctld, slurmd, slurm-client, munge)")
    folder = tmp_path / "slurm"
    folder.mkdir()
    nodes = "\n".join(f"NodeName={name} NodeAddr={NETWORK}.{number} CPUs=2 RealMemory=4000" for number, name in enumerate(NAMES, start=1))
    (folder / "slurm.conf").write_text(CONFIGURATION.format(network=NETWORK, nodes=nodes))
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    with hosts(tmp_path, *NAMES) as made:
        for host in made:
            host.run(["bash", "-c", BOOT, "boot", str(folder)], ENVIRONMENT)
        wait("the nodes", lambda: run(made[0], "sinfo", "--noheader", "--format", "%D %t").split() == ["3", "idle"], 60)
        yield made[0]


def run(host: Host, *arguments: str) -> str:
    return host.execute(arguments, ENVIRONMENT, folder=ROOT).stdout.strip()


def wait(what: str, is_so: Callable[[], bool], patience_s: float) -> None:
    until = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < until, f"no sign of {what}"
        time.sleep(0.5)


@pytest.mark.timeout(900)
def test_a_job_that_is_requeued_on_the_way_resumes_and_ends(slurm: Host, tmp_path: Path) -> None:
    runs = {name: Folder(str(tmp_path / name)) for name in ("calm", "rough")}

    def submit(name: str) -> str:
        arguments = command(tmp_path, runs[name])[2:]  # without -m jobs.synthesize
        log = str(tmp_path / f"{name}.out")
        return run(slurm, "sbatch", "--parsable", "--nodes", "3", "--output", log, "cluster/slurm/genprm.sbatch", "synthesize", *arguments)

    def state(number: str) -> str:
        return run(slurm, "scontrol", "show", "job", number).partition("JobState=")[2].partition(" ")[0]

    def end(name: str, number: str) -> None:
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        wait(f"the end of {name}", lambda: state(number) in ended, 400)
        assert state(number) == "COMPLETED", (tmp_path / f"{name}.out").read_text()[-3000:]

    end("calm", submit("calm"))
    number = submit("rough")
    wait("rows", lambda: finished(runs["rough"], "rollouts") >= 16, 200)
    run(slurm, "scontrol", "requeue", number)
    end("rough", number)
    assert "Restarts=1" in run(slurm, "scontrol", "show", "job", number)
    for stage in STAGES:
        calm, rough = (parts.read_record(runs[name], stage) for name in ("calm", "rough"))
        assert (calm["contents"], calm["rejects"]) == (rough["contents"], rough["rejects"]), stage

    wrong = run(slurm, "sbatch", "--parsable", "--nodes", "3", "--output", str(tmp_path / "wrong.out"), "cluster/slurm/genprm.sbatch",
                "synthesize", "--config", "no-such.toml")  # fmt: skip
    wait("a failure", lambda: state(wrong) == "FAILED", 200)
    assert "ExitCode=2:0" in run(slurm, "scontrol", "show", "job", wrong)  # the job's own status
