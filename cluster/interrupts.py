"""Ctrl-C that can't be lost: raised inside a library's callback, the exception is dropped there and the work would go on."""

from __future__ import annotations

import signal

_asked = False


def watch() -> None:
    """From now on an interrupt is remembered as well as raised; called by the main thread."""
    global _asked
    _asked = False

    def ask(*_: object) -> None:
        global _asked
        _asked = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, ask)


def check() -> None:
    """KeyboardInterrupt if there was one; called between pieces of work."""
    if _asked:
        raise KeyboardInterrupt
