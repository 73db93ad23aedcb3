"""What sessions may read of the machine: the interpreter, its standard library, shared libraries, and the listed packages."""

from __future__ import annotations

import importlib.metadata
import os
import re
import stat
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from genprm.errors import UserError

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
OTHERS = ("/usr/share/zoneinfo", "/etc/localtime", "/etc/ld.so.cache")
EXTENSIONS = "_ssl _hashlib _sqlite3 _ctypes _lzma _bz2 _uuid _decimal zlib"
_PT_INTERP = 3


@dataclass(frozen=True)
class Interpreter:
    """The Python that sessions run on: its file, its loader's path in it (None if static), and the folders it reads."""

    executable: str
    loader: str | None
    readable: tuple[str, ...]
    hidden: tuple[str, ...]


@cache
def interpreter() -> Interpreter:
    """The base interpreter of this process, without the packages of its environment."""
    executable = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    script = f"""
for name in {EXTENSIONS!r}.split():
    try: __import__(name)
    except ImportError: pass
print(open('/proc/self/maps').read())
"""
    maps = subprocess.run([executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
    mapped = set(re.findall(r"(/\S+\.so\S*)$", maps, re.MULTILINE))
    standard = sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix})
    folders = {os.path.dirname(file) for file in mapped} | {standard}
    outermost = {folder for folder in folders if not any(folder != other and folder.startswith(f"{other}/") for other in folders)}
    hidden = tuple(
        path for name in ("site-packages", "dist-packages") if os.path.isdir(path := os.path.join(os.path.realpath(standard), name))
    )
    return Interpreter(
        executable=executable,
        loader=_loader(executable),
        readable=tuple(sorted(os.path.realpath(folder) for folder in outermost)) + tuple(path for path in OTHERS if os.path.exists(path)),
        hidden=hidden,
    )


def _loader(executable: str) -> str | None:
    """The PT_INTERP of a 64-bit ELF file."""
    with open(executable, "rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02":
            return None
        (offset,) = struct.unpack_from("<Q", head, 32)
        size, number = struct.unpack_from("<HH", head, 54)
        for index in range(number):
            file.seek(offset + index * size)
            entry = file.read(size)
            if struct.unpack_from("<I", entry)[0] == _PT_INTERP:
                start, _, _, length = struct.unpack_from("<QQQQ", entry, 8)
                file.seek(start)
                return os.fsdecode(file.read(length).rstrip(b"\0"))
    return None


def packages(distributions: Iterable[str]) -> dict[str, str]:
    """Top-level names (packages, modules, folders of shared libraries) of distributions and of all they depend on -> paths.

    ValueError names a distribution that is not installed.
    """
    found: dict[str, str] = {}
    pending, seen = list(distributions), set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            raise UserError(f"executor.libraries: {name!r} is not installed here; install it with pip, or take it off the list") from None
        for file in distribution.files or ():
            top = file.parts[0]
            if top not in found and top != ".." and not top.endswith((".dist-info", ".pth")) and top != "__pycache__":
                found[top] = os.path.realpath(str(distribution.locate_file(top)))
        for requirement in distribution.requires or ():
            if "extra ==" not in requirement:
                needed = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
                if _is_installed(needed):
                    pending.append(needed)
    return found


def closed_to_others(paths: Iterable[str]) -> str | None:
    """The first file or folder on the way to one of these that only its owner may read or enter; None if all can be read by anyone."""
    for path in filter(os.path.exists, paths):
        for part in (Path(path), *Path(path).parents):
            mode = part.stat().st_mode
            needed = (stat.S_IROTH if part == Path(path) else 0) | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
            if mode & needed != needed:
                return str(part)
    return None


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
