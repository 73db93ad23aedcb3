"""The trusted side of a fork server: starts it, asks it for sessions, notices when it dies.

The fork server runs in a bubblewrap (own mount, process, network and IPC namespaces) where that works. Its protocol is
described in ``inside/fork_server.py``; what comes from the server itself is trusted, what comes from its sessions is not.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import platform
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from actors.code_executor.config import ExecutorConfig
from actors.code_executor.inside.scratch import sweep
from actors.code_executor.libraries import DEVICES, interpreter, packages
from actors.code_executor.session_process import SessionProcess

INSIDE = Path(__file__).with_name("inside")
START_S = 60.0
SPAWN_S = 20.0
LARGEST_PACKET = 1 << 16
FIRST_UID, UIDS_A_SERVER = 700_000, 10_000
STACK_KIB = 65_536
LARGE_PAGES = "/sys/kernel/mm/transparent_hugepage"
"""Where the C library looks whether there are any; sessions can't."""
_WRAPPER = f'echo 1000 >/proc/self/oom_score_adj 2>/dev/null; ulimit -s {STACK_KIB} 2>/dev/null; exec "$@"'
_START = "import sys; sys.path.insert(0, {parent!r}); from inside.fork_server import main; main()"


class ServerDied(RuntimeError):
    """The fork server is gone, or can't be started."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """How a fork server is to be started: in namespaces, with a user id for each session, without some layers (tests)."""

    namespaces: bool
    private_uids: bool
    skip: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{'' if self.namespaces else 'no '}namespaces and {'user ids' if self.private_uids else 'one user id'}"


@dataclass(frozen=True, kw_only=True)
class Canaries:
    """Bait outside: a file that namespaces hide, a folder that they show and Landlock does not, a process, two listeners."""

    hidden_file: str
    shown_folder: str
    pid: int
    port: int
    abstract: str


class ForkServer:
    """One fork server process and its control socket, on the running event loop. ``pid`` is its own, not the bubblewrap's around it."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, surroundings: Surroundings, scratch_parent: str) -> None:
        self.surroundings = surroundings
        self.hello: dict[str, Any] = {}
        self.pid = process.pid
        self.died = asyncio.get_running_loop().create_future()
        self._process = process
        self._control = control
        self._scratch_parent = scratch_parent
        self._loop = asyncio.get_running_loop()
        self._greeted: asyncio.Future[None] = self._loop.create_future()
        self._spawning: dict[int, asyncio.Future[tuple[int, int]]] = {}
        self._measuring: dict[int, asyncio.Future[tuple[int, int]]] = {}
        self._next = 0
        self._uids: dict[int, int] = {}
        self._free_uids: list[int] = []
        self._loop.add_reader(control.fileno(), self._read)

    @classmethod
    async def start(cls, config: ExecutorConfig, surroundings: Surroundings, canaries: Canaries) -> ForkServer:
        """Start one and wait until its libraries are imported; ServerDied, with what it said, if that fails."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        errors = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            ours.setblocking(False)
            settings = _settings(config, surroundings, canaries)
            python = [interpreter().executable, "-s", "-S", "-P", "-c", _START.format(parent=str(INSIDE.parent))]
            command = [*_bubblewrap(config, settings, canaries)] if surroundings.namespaces else []
            command += [*python, json.dumps(settings), str(theirs.fileno())]
            process = subprocess.Popen(
                ["/bin/sh", "-c", _WRAPPER, "sh", *command],
                pass_fds=[theirs.fileno()],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd="/",
                start_new_session=True,
            )
            theirs.close()
            server = cls(process, ours, surroundings, config.scratch_parent)
            try:
                await asyncio.wait_for(asyncio.shield(server._greeted), START_S)
            except (TimeoutError, ServerDied) as error:
                await server.close()
                errors.seek(0)
                said = errors.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
                raise ServerDied(said[-1] if said else f"it ended without a word ({type(error).__name__})") from error
            server.pid = _innermost(process.pid)
            return server
        except OSError as error:
            raise ServerDied(str(error)) from error
        finally:
            errors.close()
            with contextlib.suppress(OSError):
                theirs.close()

    @property
    def alive(self) -> bool:
        return not self.died.done()

    async def spawn(self) -> SessionProcess:
        """A new confined session process; ServerDied if the server is gone, OSError if it could not fork."""
        number = self._next
        self._next += 1
        uid = self._take_uid(number) if self.surroundings.private_uids else None
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            command_read, commands = _pipe(theirs, ours)
            results, result_write = _pipe(ours, theirs)
            output, output_write = _pipe(ours, theirs)
            answer: asyncio.Future[tuple[int, int]] = self._loop.create_future()
            self._spawning[number] = answer
            try:
                self._send({"do": "spawn", "id": number, "uid": uid}, (command_read, result_write, output_write))
                pid, pidfd = await asyncio.wait_for(answer, SPAWN_S)
            except TimeoutError as error:
                self._lost("it does not answer")  # so that another is started
                raise ServerDied("the fork server does not answer") from error
            except BaseException:
                if answer.done() and not answer.cancelled() and answer.exception() is None:
                    os.close(answer.result()[1])
                raise
            finally:
                self._spawning.pop(number, None)
            ours.pop_all()
        return SessionProcess(number=number, pid=pid, pidfd=pidfd, commands=commands, results=results, output=output, uid=uid)

    async def measure(self, number: int) -> tuple[int, int]:
        """Bytes and entries in a session's scratch folder."""
        if number not in self._measuring:
            self._send({"do": "measure", "id": number})
            self._measuring[number] = self._loop.create_future()
        return await asyncio.wait_for(asyncio.shield(self._measuring[number]), SPAWN_S)

    async def close(self) -> None:
        """End the server, its sessions and its folders; waits for the process."""
        self._lost("closed")
        loop = self._loop
        try:
            await asyncio.wait_for(loop.run_in_executor(None, self._process.wait), 10)
        except TimeoutError:
            self._process.kill()
            await loop.run_in_executor(None, self._process.wait)

    def _send(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._control.sendmsg([json.dumps(request).encode()], rights)
        except BlockingIOError as error:
            raise ServerDied("the fork server does not read") from error
        except OSError as error:
            self._lost(str(error))
            raise ServerDied("the fork server died") from error

    def _read(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._control.recvmsg(LARGEST_PACKET, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError as error:
                self._lost(str(error))
                return
            if not data:
                self._lost("end of file")
                return
            descriptors = array.array("i")
            for _, kind, payload in ancillary:
                if kind == socket.SCM_RIGHTS:
                    descriptors.frombytes(payload[:4])
            self._dispatch(json.loads(data), list(descriptors))

    def _dispatch(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "hello" in message:
            self.hello = message["hello"]
            if not self._greeted.done():
                self._greeted.set_result(None)
        elif "spawned" in message:
            waiting = self._spawning.get(message["spawned"])
            if waiting is None or waiting.done():
                for descriptor in descriptors:  # no caller waits: its pipes are closed, so that it ends by itself
                    os.close(descriptor)
            elif "error" in message or not descriptors:
                waiting.set_exception(OSError(message.get("error", "no descriptor is free")))
            else:
                waiting.set_result((message["pid"], descriptors[0]))
        elif "measured" in message:
            measured = self._measuring.pop(message["measured"], None)
            if measured is not None and not measured.done():
                measured.set_result((message["bytes"], message["files"]))
        elif "exited" in message and message["exited"] in self._uids:
            self._free_uids.append(self._uids.pop(message["exited"]))

    def _take_uid(self, number: int) -> int:
        """A user id that no living session has."""
        first = FIRST_UID + os.getpid() % 100_000 * UIDS_A_SERVER  # another executor on this host has others
        uid = self._free_uids.pop() if self._free_uids else first + len(self._uids)
        self._uids[number] = uid
        return uid

    def _lost(self, why: str) -> None:
        if self.died.done():
            return
        self.died.set_result(why)
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        error = ServerDied(f"the fork server died ({why})")
        everybody: list[asyncio.Future[Any]] = [self._greeted, *self._spawning.values(), *self._measuring.values()]
        for waiting in everybody:
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # so that no warning is logged for one without a waiting caller
        self._loop.run_in_executor(None, self._remove_folder)

    def _remove_folder(self) -> None:
        """What the server removes by itself, unless it was killed."""
        self._process.wait()
        sweep(self._scratch_parent)


def _innermost(pid: int) -> int:
    """The fork server in its bubblewrap: the last of a chain, as long as there are no sessions."""
    with contextlib.suppress(psutil.Error):  # dead already, which is noticed where it is used, or hidden
        while children := psutil.Process(pid).children():
            pid = children[0].pid
    return pid


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe whose ends are closed by their owners."""
    read, write = os.pipe2(os.O_CLOEXEC)
    reader.callback(os.close, read)
    writer.callback(os.close, write)
    return read, write


def _environment() -> dict[str, str]:
    """Nothing of ours. Large pages make the fork server cheap to fork: a fork and its end take 4.7 ms with them, 12 ms without."""
    pages = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"}
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "MPLBACKEND": "Agg", **pages, **threads}


def _settings(config: ExecutorConfig, surroundings: Surroundings, canaries: Canaries) -> dict[str, Any]:
    """What the fork server is sent; plain JSON."""
    return {
        "machine": platform.machine(),
        "own_path": [str(INSIDE.parent)],
        "scratch_parent": "/scratch" if surroundings.namespaces else config.scratch_parent,
        "libraries": packages(config.libraries),
        "preload": list(config.preload),
        "readable": list(interpreter().readable),
        "devices": list(DEVICES),
        "limits": {
            "memory_bytes": config.memory_mib << 20,
            "cpu_s": config.session_cpu_s,
            "file_bytes": max(1, int(config.scratch_mib * (1 << 20))),
        },
        "skip": list(surroundings.skip),
        "outside": {"file": canaries.hidden_file, "pid": canaries.pid, "port": canaries.port, "abstract": canaries.abstract},
    }


def _bubblewrap(config: ExecutorConfig, settings: dict[str, Any], canaries: Canaries) -> list[str]:
    """The command line of new namespaces with nothing in them but what the sessions need."""
    program = shutil.which("bwrap")
    if program is None:
        raise ServerDied("bubblewrap is not installed")
    python = interpreter()
    shown = [*settings["readable"], *settings["libraries"].values(), canaries.shown_folder, str(INSIDE), python.executable, LARGE_PAGES]
    outermost = sorted({path for path in shown if not any(path != other and path.startswith(f"{other}/") for other in shown)})
    command = [program, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    command += ["--hostname", "sandbox", "--new-session"]
    if os.geteuid() != 0:
        command += ["--unshare-user"]
    if python.loader is not None:
        outermost.append(python.loader)
    made: set[str] = set()
    for path in (*outermost, *DEVICES):
        for parent in reversed(Path(path).parents):
            if str(parent) not in made and str(parent) != "/":
                made.add(str(parent))
                command += ["--perms", "0755", "--dir", str(parent)]
    for path in outermost:
        command += ["--ro-bind-try", os.path.realpath(path), path]
    for path in python.hidden:
        if any(path.startswith(f"{folder}/") for folder in outermost) and not any(path in name for name in shown):
            command += ["--tmpfs", path, "--remount-ro", path]
    for device in DEVICES:
        command += ["--dev-bind", device, device]
    size = int(8 * config.scratch_mib * (1 << 20)) + (16 << 20)
    command += ["--perms", "0711", "--size", str(size), "--tmpfs", "/scratch", "--remount-ro", "/", "--chdir", "/scratch", "--"]
    return command
