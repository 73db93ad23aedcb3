"""The loop in a session's process: a block in, its result out, names kept from block to block.

Frames are 4 bytes of length (big-endian) and UTF-8 JSON. In: ``{id, code, soft_s}``. Out: ``{ready: layers}`` once, then
``{id, status, type, message, cpu_s, wall_s, peak_kib}`` for each block. What is printed goes to descriptor 1, a pipe of its own.

The code can change anything here. It can hurt its own session only: the reader of the frames trusts nothing in them.
"""

from __future__ import annotations

import builtins
import json
import os
import resource
import signal
import sys
import time
import types
from typing import Any, NoReturn

COMMANDS, RESULTS = 3, 4
LONGEST_MESSAGE = 500
REPEAT_S = 0.1


class OutOfTime(BaseException):
    """The soft limit: code that lets it through keeps its session."""


def _raise_out_of_time(*_: object) -> NoReturn:
    raise OutOfTime


def _read_exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(COMMANDS, size - len(data))
        if not piece:
            os._exit(0)
        data += piece
    return data


def _send(frame: dict[str, Any]) -> None:
    data = json.dumps(frame).encode()
    data = len(data).to_bytes(4, "big") + data
    while data:
        data = data[os.write(RESULTS, data) :]


def _disarm() -> None:
    while True:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            return
        except OutOfTime:
            continue


def _describe(error: BaseException) -> str:
    """The message of an error; its ``__str__`` is the code's own and may do anything."""
    if isinstance(error, SyntaxError):
        return str(error.msg)[:LONGEST_MESSAGE]
    return str(error)[:LONGEST_MESSAGE]


def _run(code: str, soft_s: float, names: dict[str, Any]) -> dict[str, Any]:
    status, kind, message = "ok", "", ""
    try:
        try:
            signal.signal(signal.SIGALRM, _raise_out_of_time)
            signal.setitimer(signal.ITIMER_REAL, soft_s, REPEAT_S)
            try:
                exec(compile(code, "<code>", "exec", dont_inherit=True), names)
            except OutOfTime:
                raise
            except SystemExit as leaving:  # Python shows what is no number
                if leaving.code is not None and not isinstance(leaving.code, int):
                    print(leaving.code, file=sys.stderr)
            except BaseException as error:
                status, kind, message = "error", type(error).__name__, "(its text can't be had)"
                message = _describe(error)
            sys.stdout.flush()
        finally:
            _disarm()
    except OutOfTime:
        status = "timeout"
    except SystemExit:  # of a broken __str__
        status = "error" if kind else "ok"
    except BaseException as error:  # of a broken __str__ or a closed stream
        status, kind = "error", kind or type(error).__name__
    return {"status": status, "type": str(kind)[:100], "message": message}


def serve(layers: dict[str, bool]) -> NoReturn:
    """Serve blocks until the pipe is closed."""
    _send({"ready": layers})
    home = types.ModuleType("__main__")
    sys.modules["__main__"] = home
    names = home.__dict__
    names["__builtins__"] = builtins
    vars(builtins)["exit"] = vars(builtins)["quit"] = sys.exit
    stream = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    while True:
        command = json.loads(_read_exactly(int.from_bytes(_read_exactly(4), "big")))
        sys.stdout = sys.stderr = stream
        cpu, wall = time.process_time(), time.perf_counter()
        result = _run(command["code"], command["soft_s"], names)
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
        result["id"] = command["id"]
        result["cpu_s"] = time.process_time() - cpu
        result["wall_s"] = time.perf_counter() - wall
        result["peak_kib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        _send(result)
