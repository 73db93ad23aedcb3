"""The trusted end of a session: writes commands, reads frames and output, believes nothing.

Everything that comes from the session may be forged: frames are length-checked, parsed as JSON, their fields clamped; a frame
out of turn ends the session. Output is counted as it comes, so that none can fill memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import math
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

LONGEST_FRAME = 1 << 20
LONGEST_CODE = 1 << 18
LONGEST_MESSAGE = 500
GRACE_S = 0.5
READY_S = 20.0
READ_SIZE = 1 << 16
WATCH_S = 0.05
WATCH_SHARE = 10
"""A folder that takes long to measure is measured more rarely, so that the fork server serves others meanwhile."""


class Ending(enum.StrEnum):
    """How a block ended, as seen from outside; after the first three the session stays open."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    HARD_TIMEOUT = "hard timeout"
    OUTPUT_LIMIT = "output limit"
    SCRATCH_LIMIT = "scratch limit"
    DIED = "died"
    PROTOCOL = "protocol"


ALIVE_AFTER = frozenset({Ending.OK, Ending.ERROR, Ending.TIMEOUT})


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A block's result before it is made presentable; ``output`` is at most the number of bytes that were to be kept."""

    ending: Ending
    output: bytes
    cut: bool
    error_type: str = ""
    message: str = ""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mib: float = 0.0


class SessionProcess:
    """A session's pipes and pidfd on the running event loop. ``close`` must be called, whatever happened."""

    def __init__(self, *, number: int, pid: int, pidfd: int, commands: int, results: int, output: int, uid: int | None) -> None:
        self.number = number
        self.pid = pid
        self.uid = uid
        self.layers: dict[str, bool] = {}
        self._loop = asyncio.get_running_loop()
        self._pidfd, self._commands, self._results, self._output = pidfd, commands, results, output
        self._frames = bytearray()
        self._printed = bytearray()
        self._num_printed = 0
        self._keep, self._limit = 0, LONGEST_FRAME
        self._waiting: asyncio.Future[dict[str, Any] | Ending] | None = None
        self._ended: Ending | None = None
        self._next_id = 0
        self._closed = False
        for descriptor in (commands, results, output):
            os.set_blocking(descriptor, False)
        self._loop.add_reader(results, self._read_results)
        self._loop.add_reader(output, self._read_output)
        self._loop.add_reader(pidfd, self._notice_end)

    @property
    def alive(self) -> bool:
        return self._ended is None and not self._closed

    async def ready(self) -> bool:
        """Wait for the report of the layers; False if it did not come."""
        self._limit = READ_SIZE
        answer = await self._answer(READY_S)
        layers = answer.get("ready") if isinstance(answer, dict) else None
        if not isinstance(layers, dict):
            return False
        self.layers = {str(name): value is True for name, value in layers.items()}
        return True

    async def run(
        self, code: str, *, soft_s: float, keep_bytes: int, limit_bytes: int, over_quota: Callable[[], Awaitable[bool]] | None = None
    ) -> Raw:
        """Run one block. The session is dead afterwards unless the ending is one of ``ALIVE_AFTER``."""
        if len(code) > LONGEST_CODE:
            return Raw(ending=Ending.ERROR, output=b"", cut=False, error_type="SyntaxError", message="the block is too long")
        self._read_output()  # what an earlier block's threads printed late is dropped
        self._printed.clear()
        self._num_printed = 0
        self._keep, self._limit = keep_bytes, limit_bytes
        self._next_id += 1
        self._signal(signal.SIGCONT)
        command = json.dumps({"id": self._next_id, "code": code, "soft_s": soft_s}).encode()
        began = self._loop.time()
        deadline = began + soft_s + GRACE_S
        watching = self._loop.create_task(self._watch(over_quota)) if over_quota is not None else None
        try:
            self._waiting = self._loop.create_future()
            await self._write(len(command).to_bytes(4, "big") + command, deadline)
            answer = await self._answer(deadline - self._loop.time())
        except BaseException:  # without a waiting caller nothing else would stop the block
            self.kill()
            raise
        finally:
            if watching is not None:
                watching.cancel()
        self._read_output()
        if answer is None:
            answer = Ending.HARD_TIMEOUT
        if self._ended in (Ending.OUTPUT_LIMIT, Ending.SCRATCH_LIMIT):
            answer = self._ended
        if isinstance(answer, dict) and answer.get("id") != self._next_id:
            answer = Ending.PROTOCOL
        output, cut = bytes(self._printed), self._num_printed > len(self._printed)
        wall = self._loop.time() - began
        if isinstance(answer, Ending):
            self.kill(answer)
            return Raw(ending=answer, output=output, cut=cut, wall_s=wall)
        status = answer.get("status")
        ending = Ending(status) if status in ("ok", "error", "timeout") else Ending.PROTOCOL
        if ending is Ending.PROTOCOL:
            self.kill(ending)
        else:
            self._signal(signal.SIGSTOP)
        return Raw(
            ending=ending,
            output=output,
            cut=cut,
            error_type=_text(answer.get("type"), 100) if ending is Ending.ERROR else "",
            message=_text(answer.get("message"), LONGEST_MESSAGE) if ending is Ending.ERROR else "",
            wall_s=wall,
            cpu_s=_number(answer.get("cpu_s"), 1e6),
            peak_mib=_number(answer.get("peak_kib"), 1e12) / 1024,
        )

    def kill(self, why: Ending = Ending.DIED) -> None:
        """SIGKILL; the fork server reaps and tidies up."""
        if self._ended is None:
            self._ended = why
        self._signal(signal.SIGKILL)
        self._settle(self._ended)

    def close(self) -> None:
        """Kill and let go of every descriptor."""
        if self._closed:
            return
        self.kill()
        self._closed = True
        for descriptor in (self._results, self._output, self._pidfd):
            self._loop.remove_reader(descriptor)
        self._loop.remove_writer(self._commands)
        for descriptor in (self._commands, self._results, self._output, self._pidfd):
            os.close(descriptor)

    def _signal(self, number: int) -> None:
        if not self._closed:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _settle(self, answer: dict[str, Any] | Ending) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)

    async def _answer(self, seconds: float) -> dict[str, Any] | Ending | None:
        """The next frame, or how the session ended; None if neither came in time."""
        if self._waiting is None:
            self._waiting = self._loop.create_future()
            self._take_frame()
        if self._ended is not None:
            self._settle(self._ended)
        try:
            return await asyncio.wait_for(asyncio.shield(self._waiting), max(0.0, seconds))
        except TimeoutError:
            return None
        finally:
            self._waiting = None

    async def _write(self, data: bytes, deadline: float) -> None:
        """Write a command; a session that does not read it in time is found out by the deadline of its answer."""
        view = memoryview(data)
        while view and self.alive:
            try:
                view = view[os.write(self._commands, view) :]
            except BlockingIOError:
                if self._loop.time() > deadline:
                    return
                await asyncio.sleep(0.001)
            except OSError:
                return

    async def _watch(self, over_quota: Callable[[], Awaitable[bool]]) -> None:
        pause = WATCH_S
        while True:
            await asyncio.sleep(pause)
            began = self._loop.time()
            with contextlib.suppress(RuntimeError, TimeoutError):  # a fork server that died takes the session along
                if await over_quota():
                    self.kill(Ending.SCRATCH_LIMIT)
                    return
            pause = max(WATCH_S, WATCH_SHARE * (self._loop.time() - began))

    def _read_results(self) -> None:
        try:
            piece = os.read(self._results, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._loop.remove_reader(self._results)
            return
        self._frames += piece
        self._take_frame()

    def _take_frame(self) -> None:
        """Give a whole frame to who waits; anything that is not exactly one frame in its turn ends the session."""
        if len(self._frames) < 4:
            return
        length = int.from_bytes(self._frames[:4], "big")
        if length > LONGEST_FRAME or len(self._frames) > length + 4:
            self._frames.clear()
            self.kill(Ending.PROTOCOL)
            return
        if len(self._frames) < length + 4 or self._waiting is None:
            return
        data = bytes(self._frames[4:])
        self._frames.clear()
        try:
            frame = json.loads(data)
        except (ValueError, RecursionError):
            frame = None
        if isinstance(frame, dict):
            self._settle(frame)
        else:
            self.kill(Ending.PROTOCOL)

    def _read_output(self) -> None:
        """Take what is in the pipe, at most its size at a time, so that a flood does not hold up the others."""
        if self._closed:  # the number may be another session's by now
            return
        for _ in range(16):
            try:
                piece = os.read(self._output, READ_SIZE)
            except BlockingIOError:
                return
            except OSError:
                piece = b""
            if not piece:
                self._loop.remove_reader(self._output)
                return
            self._num_printed += len(piece)
            room = self._keep - len(self._printed)
            if room > 0:
                self._printed += piece[:room]
            if self._num_printed > self._limit:
                self.kill(Ending.OUTPUT_LIMIT)
                return

    def _notice_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        if self._ended is None:
            self._ended = Ending.DIED
        self._read_results_left()
        self._settle(self._ended)

    def _read_results_left(self) -> None:
        """A frame may have been written just before the end; the block is then done, the session dead all the same."""
        if self._closed:
            return
        with contextlib.suppress(OSError):
            self._frames += os.read(self._results, READ_SIZE)
            self._take_frame()


def _text(value: object, longest: int) -> str:
    return value[:longest].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _number(value: object, largest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    try:
        number = float(value)
    except OverflowError:
        return largest
    return min(max(number, 0.0), largest) if math.isfinite(number) else 0.0
