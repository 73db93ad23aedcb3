"""Hosts on one machine: each has namespaces of its own for network, mounts, processes, names and shared memory, and a switch between them.

Files are shared, as on a cluster with a shared file system, but for /dev/shm and /tmp/ray. The machine's own network is not touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

NETWORK = "198.18.7"
"""Of the range for tests of networks (RFC 2544)."""
SWITCH = "genprm-switch"
_BEGIN = (
    'hostname "$1" && shift && mount -t tmpfs -o size=512m tmpfs /dev/shm && mkdir -p /tmp/ray && mount -t tmpfs -o size=2g tmpfs /tmp/ray '
    '&& exec "$@"'
)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Host:
    """A host that runs one command; when that ends, or the host is killed, all its processes end."""

    def __init__(self, name: str, number: int, folder: Path) -> None:
        self.name = name
        self.address = f"{NETWORK}.{number}"
        self._space, self._port = f"genprm-{name}", f"p-{name}"
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        ip("netns", "add", self._space)
        ip("-n", SWITCH, "link", "add", self._port, "type", "veth", "peer", "name", "eth0", "netns", self._space)
        ip("-n", SWITCH, "link", "set", self._port, "master", "bridge", "up")
        ip("-n", self._space, "link", "set", "lo", "up")
        ip("-n", self._space, "addr", "add", f"{self.address}/24", "dev", "eth0")
        ip("-n", self._space, "link", "set", "eth0", "up")

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Boot it with a command, in the background."""
        isolated = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self._space, *isolated, "bash", "-c", _BEGIN, "begin", self.name, *command],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def execute(
        self, command: Sequence[str], environment: Mapping[str, str], *, folder: Path, timeout_s: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on it to its end."""
        inside = ["nsenter", "-t", str(self._first_process()), "-m", "-p", "-n", "-u", "-i", f"--wd={folder}", "--", *command]
        return subprocess.run(inside, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)

    def _first_process(self) -> int:
        assert self._process is not None
        until = time.monotonic() + 10
        while time.monotonic() < until:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            if children:
                return int(children[0])
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} did not start: {self.log()}")

    def cut(self) -> None:
        """Pull its cable."""
        ip("-n", SWITCH, "link", "set", self._port, "down")

    def heal(self) -> None:
        ip("-n", SWITCH, "link", "set", self._port, "up")

    def kill(self) -> None:
        """Power loss."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def remove(self) -> None:
        self.kill()
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("netns", "delete", self._space)


@contextlib.contextmanager
def hosts(folder: Path, *names: str) -> Iterator[list[Host]]:
    """Hosts behind one switch, not booted yet. The test is skipped where the machine does not allow them."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("virtual hosts need root and iproute2")
    made: list[Host] = []
    ip("netns", "add", SWITCH)
    try:
        ip("-n", SWITCH, "link", "add", "bridge", "type", "bridge")
        ip("-n", SWITCH, "link", "set", "bridge", "up")
        for number, name in enumerate(names, start=1):
            made.append(Host(name, number, folder))
        yield made
    finally:
        for host in made:
            host.remove()
        ip("netns", "delete", SWITCH)
