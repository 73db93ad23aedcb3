"""Sessions of model-written code in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from actors.code_executor.config import ExecutorConfig

_CHILD = Path(__file__).with_name("child.py")
_LONGEST_REPORT_BYTES = 1 << 22


class CodeStatus(enum.StrEnum):
    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    DIED = "died"


@dataclass(frozen=True, kw_only=True)
class CodeResult:
    """``text`` is what the model sees: what was printed and, after an error, the error's type and message."""

    status: CodeStatus
    text: str


class CodeRunner(Protocol):
    """What workers need of an executor, be it in this process or a Ray actor."""

    async def open(self) -> str:
        """Start a session and return its id."""
        ...

    async def run(self, session: str, code: str) -> CodeResult:
        """Run a block in a session; names of earlier blocks are visible. Never raises for any code."""
        ...

    async def close(self, session: str) -> None:
        """End a session; its processes and files are gone."""
        ...


class CodeExecutor:
    """Owns the sessions' processes. A session that was killed starts anew, empty, at its next block."""

    def __init__(self, config: ExecutorConfig) -> None:
        self._config = config
        self._ids = itertools.count()
        self._sessions: dict[str, _Session] = {}
        self._running = asyncio.Semaphore(max(2, os.cpu_count() or 2))

    async def open(self) -> str:
        session = f"session-{next(self._ids)}"
        self._sessions[session] = _Session(self._config)
        return session

    async def run(self, session: str, code: str) -> CodeResult:
        async with self._running:
            return await self._sessions[session].run(code)

    async def close(self, session: str) -> None:
        live = self._sessions.pop(session, None)
        if live is not None:
            await live.end()

    async def shutdown(self) -> None:
        for session in list(self._sessions):
            await self.close(session)


class _Session:
    def __init__(self, config: ExecutorConfig) -> None:
        self._config = config
        self._child: asyncio.subprocess.Process | None = None
        self._scratch: str | None = None

    async def run(self, code: str) -> CodeResult:
        child = await self._live_child()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(code).encode() + b"\n")
            line = await asyncio.wait_for(child.stdout.readline(), self._config.timeout_s)
            report = json.loads(line)
            printed, error = _encodable(report["output"]), _encodable(report["error"])[: self._config.max_output_chars]
        except TimeoutError:
            await self.end()
            return CodeResult(status=CodeStatus.TIMEOUT, text=f"Error: timed out after {self._config.timeout_s:g} s")
        except (OSError, ValueError, KeyError, TypeError):  # the child died, or its code wrote into the pipe
            await self.end()
            return CodeResult(status=CodeStatus.DIED, text="Error: the process died")
        text = printed.rstrip("\n")
        if report.get("cut"):
            text += "\n... (output cut)"
        if error:
            text = f"{text}\n{error}" if text else error
        return CodeResult(status=CodeStatus.ERROR if error else CodeStatus.OK, text=text)

    async def _live_child(self) -> asyncio.subprocess.Process:
        if self._child is None or self._child.returncode is not None:
            await self.end()
            self._scratch = tempfile.mkdtemp(prefix="genprm-code-")
            cpu_s = max(60, int(self._config.timeout_s * 20))
            self._child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                str(_CHILD),
                str(self._config.memory_mib << 20),
                str(cpu_s),
                str(self._config.max_output_chars),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=self._scratch,
                env={"HOME": self._scratch, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                start_new_session=True,
                limit=_LONGEST_REPORT_BYTES,
            )
        return self._child

    async def end(self) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            await self._child.wait()
            self._child = None
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None


def _encodable(text: object) -> str:
    """Without lone surrogates, which code can print and nobody can store."""
    return str(text).encode("utf-8", "replace").decode()
