"""The fork server: imports the libraries once, then forks a confined session whenever it is asked.

Started by ``server.py`` with one JSON argument (``Settings``) and a SOCK_SEQPACKET socket, over which packets of JSON go:

in   ``{do: "spawn", id, uid}`` with the descriptors [commands to read, results to write, output to write]
in   ``{do: "measure", id}``
out  ``{hello: {...}}`` once
out  ``{spawned: id, pid}`` with a pidfd, or ``{spawned: id, error}``
out  ``{measured: id, bytes, files}``: what lies in the session's scratch folder
out  ``{exited: id, status}``

When the socket is closed all sessions are killed, the scratch folders removed, and the server ends. It is single-threaded,
as a process that forks must be, and it outlives whatever its sessions do.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import site
import socket
import sys
import tempfile
import threading
from typing import Any

from .confinement import Confinement, Limits
from .scratch import own_folder, remove_tree, usage
from .session import COMMANDS, RESULTS, serve

LARGEST_PACKET = 1 << 16
SHARED_THREADS = 1024
"""Of all sessions together, where they have no user id of their own."""


def main() -> None:
    settings = json.loads(sys.argv[1])
    control = socket.socket(fileno=int(sys.argv[2]))
    root = own_folder(settings["scratch_parent"])
    os.chmod(root, 0o711)
    try:
        Server(settings, control, root).run()
    finally:
        remove_tree(root)


class Server:
    def __init__(self, settings: dict[str, Any], control: socket.socket, root: str) -> None:
        self._control = control
        self._root = root
        self._sessions: dict[int, tuple[int, str]] = {}
        self._ids: dict[int, int] = {}
        libraries = os.path.join(root, "lib")
        os.mkdir(libraries, 0o755)
        for name, target in settings["libraries"].items():
            os.symlink(target, os.path.join(libraries, name))
        sys.path = [path for path in sys.path if path not in settings["own_path"]] + [libraries]
        missing = preload(settings["preload"])
        self._confinement = Confinement(
            machine=settings["machine"],
            limits=Limits(**settings["limits"], shared_threads=threads_of_this_user() + SHARED_THREADS),
            readable=[*settings["readable"], *settings["libraries"].values(), libraries],
            devices=settings["devices"],
            skip=settings["skip"],
        )
        self._hello = {
            "pid": os.getpid(),
            "missing": missing,
            "threads": threading.active_count(),
            "landlock_abi": self._confinement.landlock_abi,
            "outside": look_outside(settings["outside"]),
        }

    def run(self) -> None:
        gc.collect()
        gc.freeze()
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._tell({"hello": self._hello})
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(wake_read, select.POLLIN)
        try:
            while True:
                ready = {descriptor for descriptor, _ in poll.poll()}
                if wake_read in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, 4096)
                    self._reap()
                if self._control.fileno() in ready and not self._serve_packet():
                    return
        finally:
            for pid, _ in self._sessions.values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):  # no process is left where the folders are removed
                while True:
                    os.wait()

    def _tell(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self._control.sendmsg([json.dumps(message).encode()], rights)

    def _serve_packet(self) -> bool:
        data, ancillary, _, _ = self._control.recvmsg(LARGEST_PACKET, socket.CMSG_SPACE(3 * 4), socket.MSG_CMSG_CLOEXEC)
        if not data:
            return False
        descriptors = array.array("i")
        for _, kind, payload in ancillary:
            if kind == socket.SCM_RIGHTS:
                descriptors.frombytes(payload[: len(payload) - len(payload) % 4])
        request = json.loads(data)
        try:
            if request["do"] == "spawn":
                self._spawn(request["id"], request["uid"], list(descriptors))
            elif request["do"] == "measure":
                self._measure(request["id"])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _spawn(self, number: int, uid: int | None, descriptors: list[int]) -> None:
        scratch = os.path.join(self._root, str(number))
        pid = 0
        try:
            os.mkdir(scratch, 0o700)
            if uid is not None:
                os.chown(scratch, uid, uid)
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                self._become_session(parent, scratch, uid, descriptors)
            self._sessions[number] = (pid, scratch)
            self._ids[pid] = number
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            if pid:
                os.kill(pid, signal.SIGKILL)
            else:
                remove_tree(scratch)
            self._tell({"spawned": number, "error": str(error)})
            return
        try:
            self._tell({"spawned": number, "pid": pid}, [pidfd])
        finally:
            os.close(pidfd)

    def _become_session(self, parent: int, scratch: str, uid: int | None, descriptors: list[int]) -> None:
        try:
            signal.set_wakeup_fd(-1)
            for ours in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(ours, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # an OSError instead
                signal.signal(ignored, signal.SIG_IGN)
            nothing = os.open(os.devnull, os.O_RDONLY)
            high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100) for descriptor in (nothing, *descriptors)]
            for source, target in ((high[0], 0), (high[1], COMMANDS), (high[2], RESULTS), (high[3], 1), (high[3], 2)):
                os.dup2(source, target)
            os.chdir(scratch)
            os.environ["HOME"] = os.environ["TMPDIR"] = scratch
            tempfile.tempdir = scratch
            layers = self._confinement.apply(parent=parent, scratch=scratch, uid=uid)
            os.closerange(RESULTS + 1, 1 << 16)
            serve(layers)
        finally:
            os._exit(70)

    def _measure(self, number: int) -> None:
        size = files = 0
        if number in self._sessions:
            size, files = usage(self._sessions[number][1])
        self._tell({"measured": number, "bytes": size, "files": files})

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self._ids.pop(pid, None)
            if number is not None:
                _, scratch = self._sessions.pop(number)
                self._remove(scratch)
                self._tell({"exited": number, "status": os.waitstatus_to_exitcode(status)})

    def _remove(self, scratch: str) -> None:
        """An empty folder here, any other in a process of its own: there may be much in it, and others wait to be served."""
        try:
            os.rmdir(scratch)
        except OSError:
            try:
                if os.fork() == 0:
                    try:
                        self._control.close()
                        os.nice(10)
                        remove_tree(scratch)
                    finally:
                        os._exit(0)
            except OSError:
                remove_tree(scratch)


def preload(modules: list[str]) -> list[str]:
    """Import what sessions will use, and use it once; the names that are not there."""
    site.sethelper()
    missing = []
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if "sympy" in modules and "sympy" not in missing:
        sympy = importlib.import_module("sympy")
        x = sympy.symbols("x")
        sympy.solve(x**2 - 3 * x + 2, x)
        sympy.simplify(sympy.sin(x) ** 2 + sympy.cos(x) ** 2)
        sympy.integrate(x * sympy.exp(x), x)
        str(sympy.Matrix([[1, 2], [3, 4]]).det()), sympy.latex(sympy.sqrt(x) / 2), sympy.Rational(1, 3).evalf()
    if "numpy" in modules and "numpy" not in missing:
        numpy = importlib.import_module("numpy")
        numpy.random.default_rng(0).random()
        numpy.fft.fft([1.0, 2.0])
        numpy.linalg.solve([[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0])
    return missing


def threads_of_this_user() -> int:
    """Those that are there already; none are seen from inside a process namespace, where none count."""
    number = 0
    for pid in os.listdir("/proc") if os.path.isdir("/proc") else ():
        with contextlib.suppress(OSError):
            if pid.isdecimal() and os.stat(f"/proc/{pid}").st_uid == os.geteuid():
                number += len(os.listdir(f"/proc/{pid}/task"))
    return number


def look_outside(canaries: dict[str, Any]) -> dict[str, bool]:
    """What this process, before any session's confinement, can see of the host: all False inside namespaces."""
    seen = {"files": os.path.exists(canaries["file"]), "processes": False, "network": False, "abstract_sockets": False}
    with contextlib.suppress(OSError):
        os.kill(canaries["pid"], 0)
        seen["processes"] = True
    for name, family, address in (
        ("network", socket.AF_INET, ("127.0.0.1", canaries["port"])),
        ("abstract_sockets", socket.AF_UNIX, "\0" + canaries["abstract"]),
    ):
        with contextlib.suppress(OSError), socket.socket(family) as probe:
            probe.settimeout(1)
            probe.connect(address)
            seen[name] = True
    return seen
