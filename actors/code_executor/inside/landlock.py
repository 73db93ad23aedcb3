"""File access denied but for what is named: Landlock, by its three system calls.

Source: the kernel's userspace-api/landlock documentation; ABI 1 is of Linux 5.13.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

from .syscalls import TABLES

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG, MAKE_SYM = (
    1 << bit for bit in (0, 1, 2, 3, 4, 5, 7, 8, 12)
)
TRUNCATE = 1 << 14
READ = READ_FILE | READ_DIR
SCRATCH = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM | TRUNCATE
FILE_ONLY = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | 1 << 15

VERSION_FLAG, PATH_BENEATH, LOG_OFF = 1, 1, 1
NET_ALL, SCOPE_ALL = 0b11, 0b11
RULES_SINCE = ((1, (1 << 13) - 1), (2, 1 << 13), (3, TRUNCATE), (5, 1 << 15))
"""File rights by the ABI that brought them."""


def _call(libc: ctypes.CDLL, machine: str, name: str, *arguments: object) -> int:
    result: int = libc.syscall(ctypes.c_long(TABLES[machine][name]), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def abi(libc: ctypes.CDLL, machine: str) -> int:
    """The kernel's Landlock version; 0 where there is none, or where a container forbids it."""
    try:
        return _call(libc, machine, "landlock_create_ruleset", None, ctypes.c_size_t(0), ctypes.c_uint(VERSION_FLAG))
    except OSError:
        return 0


def handled_rights(version: int) -> int:
    rights = 0
    for since, bits in RULES_SINCE:
        if version >= since:
            rights |= bits
    return rights


def restrict(libc: ctypes.CDLL, machine: str, version: int, rules: Sequence[tuple[int, int]]) -> None:
    """Deny all file access, TCP, and signals and abstract sockets out of here, but for ``rules``: (open path, rights).

    OSError if the kernel refuses.
    """
    handled = handled_rights(version)
    attributes = struct.pack("=Q", handled)
    if version >= 4:
        attributes += struct.pack("=Q", NET_ALL)
    if version >= 6:
        attributes += struct.pack("=Q", SCOPE_ALL)
    ruleset = _call(libc, machine, "landlock_create_ruleset", attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    try:
        for descriptor, rights in rules:
            rule = struct.pack("=Qi", rights & handled, descriptor)
            _call(libc, machine, "landlock_add_rule", ctypes.c_int(ruleset), ctypes.c_int(PATH_BENEATH), rule, ctypes.c_uint(0))
        flags = LOG_OFF if version >= 7 else 0
        _call(libc, machine, "landlock_restrict_self", ctypes.c_int(ruleset), ctypes.c_uint(flags))
    finally:
        os.close(ruleset)
