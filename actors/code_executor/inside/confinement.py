"""The layers of a session's confinement, applied in the only order that works; each reports whether it holds."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from . import landlock, seccomp
from .syscalls import TABLES

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 28, 38
LOCKED_SECUREBITS = 0xEF
CAPABILITY_VERSION = 0x20080522
LOWEST_DESCRIPTOR = 10
LAYERS = ("limits", "uid", "capabilities", "no_new_privs", "landlock", "seccomp")
"""Names as configured and reported; "namespaces" is the seventh, around the fork server."""


@dataclass(frozen=True)
class Limits:
    """Of one session: bytes of data, seconds of CPU, bytes of one file, threads.

    Threads are counted by user id: ``num_threads`` for a session with one of its own, ``shared_threads`` for all that run under the
    fork server's.
    """

    memory_bytes: int
    cpu_s: int
    file_bytes: int
    shared_threads: int
    num_threads: int = 64

    @property
    def address_bytes(self) -> int:
        """Shared mappings are not data, so the address space bounds them; libraries alone take a good part of it."""
        return self.memory_bytes + (3 << 30)


class Confinement:
    """Prepared once in the fork server, so that a session has little left to do: open paths, and a filter but for its pid.

    ``skip`` leaves layers out, for the tests of the probe.
    """

    def __init__(self, *, machine: str, limits: Limits, readable: Sequence[str], devices: Sequence[str], skip: Sequence[str]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._machine = machine
        self._limits = limits
        self._skip = frozenset(skip)
        self.landlock_abi = landlock.abi(self._libc, machine)
        self._rules: list[tuple[int, int]] = []
        for path in (*readable, *devices):
            try:
                opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            descriptor = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, LOWEST_DESCRIPTOR)  # out of the way of a session's own
            os.close(opened)
            rights = landlock.READ if os.path.isdir(path) else landlock.READ_FILE
            if path in devices:
                rights = landlock.READ_FILE | landlock.WRITE_FILE
            self._rules.append((descriptor, rights))
        marks = (0x5A5A5A5A, 0x5B5B5B5B)  # stand for the pid; where two programs differ, a session puts its own
        self._filter, other = (seccomp.assemble(seccomp.program(machine, mark)) for mark in marks)
        self._pid_offsets = [
            offset for offset in range(4, len(self._filter), 8) if self._filter[offset : offset + 4] != other[offset : offset + 4]
        ]

    def apply(self, *, parent: int, scratch: str, uid: int | None) -> dict[str, bool]:
        """Confine this process, for good; which layers are on. A layer that fails is reported, not raised."""
        on = dict.fromkeys(LAYERS, False)
        steps = {
            "limits": lambda: self._set_limits(private_uid=uid is not None and "uid" not in self._skip),
            "uid": lambda: self._change_user(uid),
            "capabilities": self._drop_capabilities,
            "no_new_privs": lambda: self._prctl(PR_SET_NO_NEW_PRIVS, 1),
            "landlock": lambda: self._restrict_files(scratch),
            "seccomp": self._filter_calls,
        }
        for name, step in steps.items():
            if name == "no_new_privs":  # after the change of user, which clears it
                self._die_with(parent)
            if name in self._skip:
                continue
            try:
                on[name] = step() is not False
            except (OSError, ValueError):
                on[name] = False
        return on

    def _set_limits(self, *, private_uid: bool) -> None:
        limits = self._limits
        values = [
            (resource.RLIMIT_DATA, limits.memory_bytes),
            (resource.RLIMIT_AS, limits.address_bytes),
            (resource.RLIMIT_FSIZE, limits.file_bytes),
            (resource.RLIMIT_NOFILE, 64),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_MEMLOCK, 0),
            (resource.RLIMIT_MSGQUEUE, 0),
            (resource.RLIMIT_NPROC, limits.num_threads if private_uid else limits.shared_threads),
        ]
        for which, value in values:
            hard = resource.getrlimit(which)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(which, (value, value))
        resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + 5))

    def _change_user(self, uid: int | None) -> bool:
        if uid is None:
            return False
        for bit in range(64):
            if self._libc.prctl(PR_CAPBSET_DROP, bit, 0, 0, 0) != 0:
                break
        self._libc.prctl(PR_SET_SECUREBITS, LOCKED_SECUREBITS, 0, 0, 0)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        return True

    def _drop_capabilities(self) -> bool:
        header = struct.pack("=Ii", CAPABILITY_VERSION, 0)
        numbers = TABLES[self._machine]
        self._libc.syscall(ctypes.c_long(numbers["capset"]), header, bytes(24))
        left = ctypes.create_string_buffer(24)
        if self._libc.syscall(ctypes.c_long(numbers["capget"]), header, left) != 0:
            return False
        return left.raw == bytes(24)

    def _die_with(self, parent: int) -> None:
        """The session dies when the fork server does; ``parent`` tells a fork server that is dead already."""
        self._prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        self._prctl(PR_SET_DUMPABLE, 0)

    def _prctl(self, option: int, value: int) -> None:
        if self._libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")

    def _restrict_files(self, scratch: str) -> None:
        if not self.landlock_abi:
            raise OSError("no Landlock")
        descriptor = os.open(scratch, os.O_PATH | os.O_CLOEXEC)
        try:
            rules = [*self._rules, (descriptor, landlock.SCRATCH)]
            landlock.restrict(self._libc, self._machine, self.landlock_abi, rules)
        finally:
            os.close(descriptor)

    def _filter_calls(self) -> None:
        code = bytearray(self._filter)
        for offset in self._pid_offsets:
            code[offset : offset + 4] = struct.pack("=I", os.getpid())
        seccomp.install(self._libc, self._machine, bytes(code))
