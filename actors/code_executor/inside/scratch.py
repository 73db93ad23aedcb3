"""Folders for files of sessions: made with a lock, measured, removed whatever is in them, swept when their owner is dead."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time

PREFIX = "genprm-code-"
LOCK = "lock"
REMOVALS = 25
DEEPEST, MOST_COUNTED, MOST_COUNTED_FOLDERS = 32, 100_000, 200
UNCOUNTED = 1 << 40
"""More entries than any quota allows."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def own_folder(parent: str) -> str:
    """A new folder, locked as long as this process lives, so that ``sweep`` knows a stale one when it sees it."""
    folder = tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent)  # not yet a name that is swept
    lock = os.open(os.path.join(folder, LOCK), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    final = os.path.join(parent, os.path.basename(folder)[1:])
    os.rename(folder, final)
    return final


def sweep(parent: str) -> None:
    """Remove the folders of this user whose owner was killed."""
    for name in os.listdir(parent):
        if name.startswith(PREFIX):
            _remove_if_stale(os.path.join(parent, name))


def _remove_if_stale(folder: str) -> None:
    try:
        status = os.lstat(folder)
        if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
            return
        lock = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for _ in range(REMOVALS):
            remove_tree(folder)
            if not os.path.exists(folder):
                break
            time.sleep(0.02)  # its owner's sessions are still dying, and one has written meanwhile
    except OSError:  # its owner lives
        pass
    finally:
        os.close(lock)


def usage(folder: str) -> tuple[int, int]:
    """Bytes and entries below a folder; UNCOUNTED entries where it is too deep or too large, or has a folder that can't be entered.

    Goes by descriptors and follows no link, so that no process in it can lead it elsewhere.
    """
    size = files = 0
    try:
        pending = [(os.open(folder, _FOLDER), 0)]
    except OSError:
        return 0, UNCOUNTED
    try:
        while pending:
            descriptor, depth = pending.pop()
            try:
                if depth > DEEPEST:
                    return size, UNCOUNTED
                with os.scandir(descriptor) as entries:
                    for entry in entries:
                        files += 1
                        if files > MOST_COUNTED or len(pending) > MOST_COUNTED_FOLDERS:
                            return size, UNCOUNTED
                        if entry.is_dir(follow_symlinks=False):
                            if _can_hold(entry):
                                pending.append((os.open(entry.name, _FOLDER, dir_fd=descriptor), depth + 1))
                        else:
                            with contextlib.suppress(FileNotFoundError):
                                size += entry.stat(follow_symlinks=False).st_blocks * 512
            except FileNotFoundError:  # removed meanwhile
                continue
            finally:
                os.close(descriptor)
    except OSError:
        return size, UNCOUNTED
    finally:
        for descriptor, _ in pending:
            os.close(descriptor)
    return size, files


def _can_hold(entry: os.DirEntry[str]) -> bool:
    """Whether its maker could put anything into a folder; modes can't be changed by sessions."""
    return entry.stat(follow_symlinks=False).st_mode & 0o300 == 0o300


def remove_tree(folder: str) -> None:
    """Remove a folder whatever was made in it: no recursion, no long paths, no stop at unreadable folders.

    Folders in folders are moved up to the top, so that all become flat. No process may be left in it.
    """
    count = 0
    mark = os.urandom(8).hex()  # no name that was made there on purpose
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            os.chmod(current, 0o700)
            names = os.listdir(current)
        except OSError:
            continue
        for name in names:
            path = os.path.join(current, name)
            try:
                os.unlink(path)
                continue
            except OSError as error:
                if error.errno not in (errno.EISDIR, errno.EPERM):
                    continue
            if current != folder:
                count += 1
                moved = os.path.join(folder, f".{mark}-{count}")
                try:
                    os.chmod(path, 0o700)
                    os.rename(path, moved)
                except OSError:
                    continue
                path = moved
            pending.append(path)
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(folder, name))
        os.rmdir(folder)
    if os.path.exists(folder):
        with contextlib.suppress(RecursionError):
            shutil.rmtree(folder, ignore_errors=True)
