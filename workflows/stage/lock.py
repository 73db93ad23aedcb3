"""One job at a time in a run directory: two would make the same rows twice.

On a file system (NFS too) the kernel locks a file for as long as its process lives. In an object store the lock is an object that its
holder writes again every `RENEW_S`; one that was not written for `EXPIRE_S` belongs to a dead job, and is taken over by a conditional
write, which only one of several can win.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from actors.storage import Folder
from genprm.errors import UserError

LOCK = "_lock"
RENEW_S = 15.0
EXPIRE_S = 60.0


@contextlib.contextmanager
def locked(run: Folder, *, say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)) -> Iterator[None]:
    """Hold the run directory; UserError if another job does. ``say`` tells a person what is waited for."""
    with _file_lock(run) if run.is_local else _lease(run, say):
        yield


def _me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _held(run: Folder, holder: str) -> UserError:
    return UserError(f"--run-dir = {run.uri!r}: another job ({holder}) is running there; wait for it, or take another directory")


@contextlib.contextmanager
def _file_lock(run: Folder) -> Iterator[None]:
    """The lock ends with its process, however that ends."""
    descriptor = os.open(Path(run.uri, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)  # NFS locks only what is open for writing
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _held(run, os.pread(descriptor, 500, 0).decode(errors="replace") or "unknown") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _me().encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _lease(run: Folder, say: Callable[[str], None]) -> Iterator[None]:
    lease = _Lease(run)
    lease.take(say)
    over = threading.Event()
    thread = threading.Thread(target=lease.renew_until, args=(over,), name="lock of the run directory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        lease.release()


class _Lease:
    """A lock that its holder must renew."""

    def __init__(self, run: Folder) -> None:
        self._run = run
        self._id = uuid.uuid4().hex
        self._tag = ""

    def _data(self) -> bytes:
        return json.dumps({"holder": _me(), "id": self._id, "renewed": time.time()}).encode()

    def take(self, say: Callable[[str], None]) -> None:
        try:
            self._tag = self._run.write_new(LOCK, self._data())
            return
        except FileExistsError:
            pass
        (tag, holder), since = self._seen(), time.monotonic()
        say(f"{self._run.uri} is locked by {holder}; waiting up to {EXPIRE_S:.0f} s to see whether it lives")
        while tag is not None and time.monotonic() - since < EXPIRE_S:
            time.sleep(min(1.0, EXPIRE_S / 10))
            now, holder = self._seen()
            if now is not None and now != tag:
                raise _held(self._run, holder)
            tag = now
        try:
            self._tag = self._run.write_new(LOCK, self._data()) if tag is None else self._run.replace(LOCK, self._data(), tag)
        except FileExistsError as error:  # another one was waiting, too
            raise _held(self._run, self._seen()[1]) from error

    def _seen(self) -> tuple[str | None, str]:
        """The lock's tag and holder; None if it is free."""
        try:
            tag = self._run.tag(LOCK)
            return tag, str(self._run.read_json(LOCK)["holder"])
        except (FileNotFoundError, ValueError):
            return None, "unknown"

    def renew_until(self, over: threading.Event) -> None:
        while not over.wait(RENEW_S):
            try:
                self._tag = self._run.replace(LOCK, self._data(), self._tag)
            except (FileExistsError, FileNotFoundError):
                try:
                    if self._is_mine():  # the answer to a write was lost, and the write was made again
                        self._tag = self._run.tag(LOCK)
                        continue
                except OSError:  # not to be known now
                    continue
                print(f"error: {self._run.uri} was taken over by {self._seen()[1]}; this job ends", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            except OSError as error:  # storage is away: what this job writes fails as well, and so does another's try to take the lock
                print(f"warning: the lock of {self._run.uri} can't be renewed: {error}", file=sys.stderr, flush=True)

    def _is_mine(self) -> bool:
        try:
            return bool(self._run.read_json(LOCK)["id"] == self._id)
        except (FileNotFoundError, ValueError):
            return False

    def release(self) -> None:
        with contextlib.suppress(OSError):
            if self._is_mine():
                self._run.delete(LOCK)
