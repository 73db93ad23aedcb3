"""Processes that a library starts end with ours, however that ends.

vLLM's engine core goes on without its parent, and keeps its GPUs, when that is killed (measured with vLLM 0.32.0). A small process of our
own, which notices this by the end of ours or of a pipe, kills it then. Linux only.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

POLL_S = 0.2


@contextmanager
def watched() -> Iterator[subprocess.Popen[bytes]]:
    """Every process that this one starts in the block, and what they start meanwhile (but not what those of before start), is killed when
    this process ends or closes the pipe of what is given here."""
    own = set(descendants(os.getpid()))
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(os.getpid()), *map(str, own)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert watcher.stdin is not None
    assert watcher.stdout is not None
    try:
        yield watcher
    except BaseException:
        watcher.stdin.close()
        raise
    watcher.stdin.write(b"all started")
    watcher.stdin.flush()
    watcher.stdout.read()  # it closes this when it has found them


def descendants(pid: int, without: Collection[int] = ()) -> Iterator[int]:
    """The processes under another one, but not those under ``without``; those that end meanwhile may be missing."""
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                for child in map(int, (task / "children").read_text().split()):
                    if child not in without:
                        yield child
                        yield from descendants(child, without)


def main(parent: int, others: set[int]) -> None:
    """Look for new processes until told that all have started; kill them at the end of the pipe."""
    found: dict[int, int] = {}

    def look() -> None:
        for pid in descendants(parent, {*others, os.getpid()}):
            if pid not in found:
                with suppress(OSError):
                    found[pid] = os.pidfd_open(pid)

    ended = os.pidfd_open(parent)  # a forked process may hold the pipe open
    while not select.select([0, ended], [], [], POLL_S)[0]:
        look()
    if not select.select([ended], [], [], 0)[0] and os.read(0, 100):
        look()
        os.close(1)
        select.select([0, ended], [], [])
    for descriptor in found.values():
        with suppress(OSError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), set(map(int, sys.argv[2:])))
