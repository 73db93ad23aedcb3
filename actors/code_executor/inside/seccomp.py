"""A system call filter as a classic BPF program: what is not on the list does not exist.

Default is ENOSYS, so that libraries fall back; what is plainly an attack, or what Python should name clearly, is EPERM; a
foreign architecture's calls (32-bit, x32) kill. Arguments are looked at where a call is needed but not all of it.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Callable, Sequence

from .syscalls import AUDIT_ARCH, TABLES

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
ERRNO = 0x00050000
DENY = ERRNO | errno.EPERM
ABSENT = ERRNO | errno.ENOSYS

LOAD, AND, JUMP, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, RETURN = 0x20, 0x54, 0x05, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, ARCH_AT, ARGUMENTS_AT = 0, 4, 16
X32 = 0x40000000

Instruction = tuple[int, int, int, int]

FREE = (
    "read", "write", "close", "fstat", "newfstatat", "lseek", "mmap", "munmap", "mprotect", "mremap", "madvise", "brk", "futex",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigtimedwait", "rt_sigsuspend", "sigaltstack", "stat",
    "lstat", "statx", "poll", "ppoll", "select", "pselect6", "pread64", "pwrite64", "readv", "writev", "preadv", "pwritev", "access",
    "faccessat", "faccessat2", "pipe", "pipe2", "sched_yield", "msync", "mincore", "dup", "dup2", "dup3", "pause", "nanosleep",
    "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time", "times", "getitimer", "setitimer", "alarm", "getpid",
    "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups", "getpgrp", "getpgid",
    "getsid", "exit", "exit_group", "wait4", "waitid", "uname", "flock", "fsync", "fdatasync", "ftruncate", "fadvise64",
    "getdents64", "getcwd", "chdir", "fchdir", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat",
    "symlink", "symlinkat", "readlink", "readlinkat", "umask", "getrlimit", "getrusage", "sysinfo", "capget", "getpriority",
    "sched_getaffinity", "sched_getparam", "sched_getscheduler", "sched_get_priority_max", "sched_get_priority_min", "getcpu",
    "set_tid_address", "set_robust_list", "restart_syscall", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2",
    "eventfd", "eventfd2", "timerfd_create", "shutdown", "getsockname", "getrandom", "membarrier", "rseq", "close_range",
)  # fmt: skip
"""Allowed whatever the arguments; files are Landlock's business."""

DENIED = (
    "fork", "vfork", "execve", "execveat", "socket", "connect", "accept", "bind", "listen", "sendmsg", "ptrace", "process_vm_readv",
    "process_vm_writev", "pidfd_open", "pidfd_send_signal", "pidfd_getfd", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "chmod",
    "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "utime", "utimes", "futimesat", "utimensat", "setxattr",
    "lsetxattr", "fsetxattr", "truncate", "link", "linkat", "mknod", "mknodat", "mount", "umount2", "pivot_root", "chroot", "unshare",
    "setns", "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setpgid", "setsid", "capset",
    "setrlimit", "setpriority", "sched_setaffinity", "personality", "memfd_create", "shmget", "shmat", "shmctl", "semget", "msgget",
    "mq_open", "add_key", "request_key", "keyctl", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "statfs", "fstatfs",
    "syslog", "mlock", "timer_create",
)  # fmt: skip

THREAD_FLAGS = 0x3D0F00
"""VM FS FILES SIGHAND THREAD SYSVSEM SETTLS PARENT_SETTID CHILD_CLEARTID: what a C library's thread start asks for."""
DETACHED = 0x00400000
FCNTL_COMMANDS = (0, 1, 2, 3, 5, 6, 7, 36, 37, 38, 1030, 1032)
F_SETFL, O_ASYNC = 4, 0x2000
IOCTL_REQUESTS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
PRCTL_OPTIONS = (3, 15, 16, 21, 39)
O_ACCMODE, O_TRUNC = 3, 0x200
SIGCONT = 18
"""Sent often enough it undoes the stop in which a session waits for its next block."""
MSG_OOB = 1
AF_UNIX, SOCK_STREAM = 1, 1


def _load(offset: int) -> Instruction:
    return (LOAD, 0, 0, offset)


def _low(argument: int) -> Instruction:
    return _load(ARGUMENTS_AT + 8 * argument)


def _high(argument: int) -> Instruction:
    return _load(ARGUMENTS_AT + 8 * argument + 4)


def _return(action: int) -> Instruction:
    return (RETURN, 0, 0, action)


def _if_equal(value: int, action: int) -> list[Instruction]:
    return [(JUMP_EQUAL, 0, 1, value), _return(action)]


def _one_of(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    """Allowed if the argument is one of ``values``."""
    return [_low(argument), *(item for value in values for item in _if_equal(value, ALLOW)), _return(DENY)]


def _is_null(argument: int) -> list[Instruction]:
    """Continues only if the argument's 64 bits are zero."""
    return [_low(argument), (JUMP_EQUAL, 1, 0, 0), _return(DENY), _high(argument), (JUMP_EQUAL, 1, 0, 0), _return(DENY)]


def _clone() -> list[Instruction]:
    return [_low(0), (AND, 0, 0, 0xFFFFFFFF & ~DETACHED), *_if_equal(THREAD_FLAGS, ALLOW), _return(DENY)]


def _fcntl() -> list[Instruction]:
    without_async = [_low(2), (JUMP_ANY_BIT, 0, 1, O_ASYNC), _return(DENY), _return(ALLOW)]
    return [_low(1), (JUMP_EQUAL, 0, len(without_async), F_SETFL), *without_async, *_one_of(1, FCNTL_COMMANDS)]


def _open(flags_argument: int) -> list[Instruction]:
    """No truncation by an open for reading, nor by one for neither reading nor writing: Landlock before ABI 3 lets both through."""
    flags = _low(flags_argument)
    truncates = [flags, (JUMP_ANY_BIT, 0, 1, O_TRUNC), _return(DENY), _return(ALLOW)]
    mode = [flags, (AND, 0, 0, O_ACCMODE)]
    return [*mode, *_if_equal(O_ACCMODE, DENY), (JUMP_EQUAL, 0, len(truncates), 0), *truncates, _return(ALLOW)]


def _socketpair() -> list[Instruction]:
    return [
        _low(0), (JUMP_EQUAL, 1, 0, AF_UNIX), _return(DENY),
        _low(1), (AND, 0, 0, 0xF), *_if_equal(SOCK_STREAM, ALLOW), _return(DENY),
    ]  # fmt: skip


def _own_signal(pid: int, signal_argument: int) -> list[Instruction]:
    """A signal to this process, if it is not the one that lets it go on."""
    return [_low(signal_argument), *_if_equal(SIGCONT, DENY), *_own_process(pid)]


def _not_out_of_band(flags_argument: int) -> list[Instruction]:
    return [_low(flags_argument), (JUMP_ANY_BIT, 0, 1, MSG_OOB), _return(DENY)]


def _own_process(pid: int) -> list[Instruction]:
    return [_low(0), *_if_equal(pid, ALLOW), _return(DENY)]


def _conditional(pid: int) -> dict[str, Callable[[], list[Instruction]]]:
    return {
        "clone": _clone,
        "fcntl": _fcntl,
        "ioctl": lambda: _one_of(1, IOCTL_REQUESTS),
        "prctl": lambda: _one_of(0, PRCTL_OPTIONS),
        "open": lambda: _open(1),
        "openat": lambda: _open(2),
        "kill": lambda: _own_signal(pid, 1),
        "tgkill": lambda: _own_signal(pid, 2),
        "socketpair": _socketpair,
        "sendto": lambda: [*_not_out_of_band(3), *_is_null(4), _return(ALLOW)],
        "recvfrom": lambda: [*_not_out_of_band(3), _return(ALLOW)],
        "prlimit64": lambda: [*_is_null(2), *_own_process(0)],
    }


def program(machine: str, pid: int) -> list[Instruction]:
    """The filter of a session whose process id is ``pid``: a binary search over the numbers.

    The kernel runs a new filter once for every number there is, so a list would cost a session as much as all else here.
    """
    numbers = TABLES[machine]
    actions: dict[int, list[Instruction]] = {numbers[name]: [_return(ALLOW)] for name in FREE if name in numbers}
    actions |= {numbers[name]: [_return(DENY)] for name in DENIED if name in numbers}
    actions |= {numbers[name]: rule() for name, rule in _conditional(pid).items() if name in numbers}
    absent = [_return(ABSENT)]
    segments: list[tuple[int, list[Instruction]]] = [(0, actions.get(0, absent))]
    for number in range(1, max(actions) + 2):
        action = actions.get(number, absent)
        if action != segments[-1][1]:
            segments.append((number, action))
    code: list[Instruction] = [_load(ARCH_AT), (JUMP_EQUAL, 1, 0, AUDIT_ARCH[machine]), _return(KILL_PROCESS), _load(NUMBER_AT)]
    if machine == "x86_64":
        code += [(JUMP_AT_LEAST, 0, 1, X32), _return(KILL_PROCESS)]
    return code + _search(segments)


def _search(segments: Sequence[tuple[int, list[Instruction]]]) -> list[Instruction]:
    """The action of the last segment that does not begin after the number in the accumulator."""
    if len(segments) == 1:
        return segments[0][1]
    middle = len(segments) // 2
    below, above = _search(segments[:middle]), _search(segments[middle:])
    return [(JUMP_AT_LEAST, 0, 1, segments[middle][0]), (JUMP, 0, 0, len(below)), *below, *above]


def assemble(instructions: list[Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


SET_MODE_FILTER, SPEC_ALLOW = 1, 1 << 2


def install(libc: ctypes.CDLL, machine: str, assembled: bytes) -> None:
    """Confine this process for good (needs no_new_privs); OSError if the kernel refuses."""
    prog = _Program(len(assembled) // 8, assembled)
    number = TABLES[machine]["seccomp"]
    for flags in (SPEC_ALLOW, 0):
        if libc.syscall(ctypes.c_long(number), ctypes.c_ulong(SET_MODE_FILTER), ctypes.c_ulong(flags), ctypes.byref(prog)) == 0:
            return
    raise OSError(ctypes.get_errno(), "seccomp")
