"""Ctrl-C and SIGTERM that can't be lost: raised inside a library's callback, the exception is dropped there and the work would go on.

SIGTERM is how Slurm, Kubernetes and ``ray job stop`` end a job.
"""

from __future__ import annotations

import signal

_asked: int | None = None


def watch() -> None:
    """From now on an interrupt is remembered as well as raised; called by the main thread."""
    global _asked
    _asked = None
    set_handlers()


def set_handlers() -> None:
    """Put our handlers in place, again after a library has replaced them: Ray's own ends a driver at SIGTERM, with status 15."""

    def ask(number: int, _: object) -> None:
        global _asked
        _asked = number
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)


def check() -> None:
    """KeyboardInterrupt if there was one; called between pieces of work."""
    if _asked is not None:
        raise KeyboardInterrupt


def exit_status() -> int:
    """Of a process that an interrupt ends: 128 and the signal's number, 130 for Ctrl-C."""
    return 128 + (_asked or signal.SIGINT)
