"""Attacks by which a session's isolation is found out. Never imported: its text is run as a model's code would be.

Prints one JSON object: what each attack got (True where it was contained), and whether ordinary work is possible at all.
"""

import ctypes
import json
import os
import resource
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

BAIT = json.loads("@BAIT@")
NUMBERS = BAIT["numbers"]
libc = ctypes.CDLL(None, use_errno=True)


def denied(action: Callable[[], object], *errors: int) -> bool:
    """Whether an action is refused, with one of the errors if they are given."""
    try:
        action()
    except OSError as error:
        return not errors or error.errno in errors
    return False


def raw(name: str, *arguments: int) -> int:
    result: int = libc.syscall(ctypes.c_long(NUMBERS[name]), *[ctypes.c_long(value) for value in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def own_file() -> None:
    with open("bait", "w") as file:
        file.write("x")


def works(action: Callable[[], object]) -> bool:
    try:
        action()
    except Exception:
        return False
    return True


def lazy_imports() -> None:
    import graphlib  # noqa: F401

    for name in BAIT["libraries"]:
        __import__(name)


def capabilities() -> bool:
    header, data = struct.pack("=Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
    libc.syscall(ctypes.c_long(NUMBERS["capget"]), header, data)
    return data.raw == bytes(24)


EPERM = (1,)
ordinary = {"scratch": works(own_file), "libraries": works(lazy_imports)}
contained = {
    "landlock: read a file": denied(lambda: Path(BAIT["shown_file"]).read_text()),
    "landlock: list a folder": denied(lambda: os.listdir(BAIT["shown_folder"])),
    "landlock: list the root": denied(lambda: os.listdir("/")),
    "seccomp: fork": denied(fork, *EPERM),
    "seccomp: execute": denied(lambda: os.execv("/no/such/program", ["x"]), *EPERM),
    "seccomp: internet socket": denied(lambda: socket.socket(socket.AF_INET), *EPERM),
    "seccomp: unix socket": denied(lambda: socket.socket(socket.AF_UNIX), *EPERM),
    "seccomp: signal the fork server": denied(lambda: os.kill(os.getppid() or 1, 0), *EPERM),
    "seccomp: change a file's mode": denied(lambda: os.chmod("bait", 0o600), *EPERM),
    "seccomp: trace": denied(lambda: raw("ptrace", 0, 0, 0, 0), *EPERM),
    "seccomp: new namespace": denied(lambda: raw("unshare", 0), *EPERM),
    "seccomp: anonymous file": denied(lambda: raw("memfd_create", 0, 0), *EPERM),
    "no_new_privs: set": libc.prctl(39, 0, 0, 0, 0) == 1,
    "capabilities: none": capabilities(),
    "limits: memory": resource.getrlimit(resource.RLIMIT_DATA)[1] == BAIT["memory_bytes"],
    "limits: a mapping of twice the memory": not works(lambda: bytearray(2 * BAIT["memory_bytes"])),
    "limits: descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[1] <= 64,
    "uid: its own": os.getuid() == BAIT["uid"],
    "namespaces: a hidden file's name": not os.path.exists(BAIT["hidden_file"]),
}
print(json.dumps({"ordinary": ordinary, "contained": contained}), file=sys.stdout, flush=True)
