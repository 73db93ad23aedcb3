"""The filter's numbers, checked against libseccomp, and its program, run on an interpreter of classic BPF."""

from __future__ import annotations

import ctypes
import ctypes.util

import pytest

from actors.code_executor.inside import seccomp
from actors.code_executor.inside.syscalls import AUDIT_ARCH, TABLES

PID = 4242
CLONE_THREAD_START, FORK = 0x3D0F00, 17


def library() -> ctypes.CDLL:
    try:
        found = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("libseccomp is not installed")
    found.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    found.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p
    return found


@pytest.mark.parametrize("machine", TABLES)
def test_the_numbers_are_libseccomps(machine: str) -> None:
    libseccomp = library()
    ours = TABLES[machine]
    theirs = {name: libseccomp.seccomp_syscall_resolve_name_arch(AUDIT_ARCH[machine], name.encode()) for name in ours}
    known = {name: number for name, number in theirs.items() if number != -1}  # an old library lacks the newest
    assert {name: ours[name] for name in known} == known
    assert len(known) > len(ours) - 3


@pytest.mark.parametrize("machine", TABLES)
def test_what_is_named_in_the_lists_exists_and_stands_once(machine: str) -> None:
    names = [*seccomp.FREE, *seccomp.DENIED, *seccomp._conditional(PID)]
    assert len(names) == len(set(names))
    assert set(names) <= set(TABLES["x86_64"])
    assert len(set(TABLES[machine].values())) == len(TABLES[machine])


def verdict(machine: str, name: str | int, *arguments: int, arch: int | None = None) -> int:
    """What the program returns for a call, by running it."""
    number = TABLES[machine][name] if isinstance(name, str) else name
    padded = [*arguments, *[0] * (6 - len(arguments))]
    words = {0: number, 4: AUDIT_ARCH[machine] if arch is None else arch}
    for index, value in enumerate(padded):
        words[16 + 8 * index], words[20 + 8 * index] = value & 0xFFFFFFFF, value >> 32
    code, position, accumulator = seccomp.program(machine, PID), 0, 0
    while True:
        operation, if_true, if_false, k = code[position]
        position += 1
        if operation == seccomp.LOAD:
            accumulator = words[k]
        elif operation == seccomp.AND:
            accumulator &= k
        elif operation == seccomp.RETURN:
            return k
        elif operation == seccomp.JUMP:
            position += k
        else:
            holds = {
                seccomp.JUMP_EQUAL: accumulator == k,
                seccomp.JUMP_AT_LEAST: accumulator >= k,
                seccomp.JUMP_ANY_BIT: bool(accumulator & k),
            }[operation]
            position += if_true if holds else if_false


@pytest.mark.parametrize("machine", TABLES)
@pytest.mark.parametrize(
    ("call", "arguments", "wanted"),
    [
        ("read", (), seccomp.ALLOW),
        ("clone", (CLONE_THREAD_START,), seccomp.ALLOW),
        ("clone", (CLONE_THREAD_START | seccomp.DETACHED,), seccomp.ALLOW),
        ("clone", (FORK,), seccomp.DENY),
        ("clone", (CLONE_THREAD_START | 0x10000000,), seccomp.DENY),
        ("clone3", (), seccomp.ABSENT),
        ("execve", (), seccomp.DENY),
        ("kill", (PID, 9), seccomp.ALLOW),
        ("kill", (PID, 18), seccomp.DENY),
        ("tgkill", (PID, PID, 10), seccomp.ALLOW),
        ("tgkill", (PID, PID, 18), seccomp.DENY),
        ("kill", (PID + 1, 9), seccomp.DENY),
        ("kill", (2**32 - 1, 9), seccomp.DENY),
        ("tgkill", (1, PID, 9), seccomp.DENY),
        ("fcntl", (5, 3), seccomp.ALLOW),
        ("fcntl", (5, 4, 0x800), seccomp.ALLOW),
        ("fcntl", (5, 4, 0x2800), seccomp.DENY),
        ("fcntl", (5, 8, PID + 1), seccomp.DENY),
        ("openat", (0, 0, 0o100), seccomp.ALLOW),
        ("openat", (0, 0, 0o1000), seccomp.DENY),
        ("openat", (0, 0, 0o1001), seccomp.ALLOW),
        ("openat", (0, 0, 3), seccomp.DENY),
        ("openat", (0, 0, 0o1003), seccomp.DENY),
        ("fallocate", (), seccomp.ABSENT),
        ("socketpair", (1, 1 | 0o2000000), seccomp.ALLOW),
        ("socketpair", (1, 2), seccomp.DENY),
        ("socketpair", (2, 1), seccomp.DENY),
        ("sendto", (3, 1, 1, 0, 0), seccomp.ALLOW),
        ("sendto", (3, 1, 1, 0, 1 << 40), seccomp.DENY),
        ("sendto", (3, 1, 1, 1, 0), seccomp.DENY),
        ("recvfrom", (3, 1, 1, 0), seccomp.ALLOW),
        ("recvfrom", (3, 1, 1, 1), seccomp.DENY),
        ("prlimit64", (0, 7, 0), seccomp.ALLOW),
        ("prlimit64", (0, 7, 1 << 35), seccomp.DENY),
        ("prlimit64", (PID + 1, 7, 0), seccomp.DENY),
        ("prctl", (4, 1), seccomp.DENY),
        ("ioctl", (0, 0x5412), seccomp.DENY),
        ("openat2", (), seccomp.ABSENT),
        (5000, (), seccomp.ABSENT),
    ],
)
def test_calls_and_their_arguments(machine: str, call: str | int, arguments: tuple[int, ...], wanted: int) -> None:
    assert verdict(machine, call, *arguments) == wanted


def test_foreign_calls_kill() -> None:
    assert verdict("x86_64", "read", arch=0x40000003) == seccomp.KILL_PROCESS
    assert verdict("x86_64", 0x40000000 + 57) == seccomp.KILL_PROCESS


def test_the_program_fits() -> None:
    for machine in TABLES:
        assert len(seccomp.program(machine, PID)) < 4096
