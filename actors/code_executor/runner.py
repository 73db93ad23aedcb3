"""What callers see of an executor: its interface, how a block ended, and what the model is shown of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from actors.code_executor import text
from actors.code_executor.config import ExecutorConfig, Tier
from actors.code_executor.session_process import ALIVE_AFTER, Ending, Raw


class CodeStatus(enum.StrEnum):
    """How a block ended. ``refused``: it was not run, and says nothing about the code."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    KILLED = "killed"
    OUTPUT_LIMIT = "output limit"
    REFUSED = "refused"


_STATUS = {
    Ending.OK: CodeStatus.OK,
    Ending.ERROR: CodeStatus.ERROR,
    Ending.TIMEOUT: CodeStatus.TIMEOUT,
    Ending.HARD_TIMEOUT: CodeStatus.TIMEOUT,
    Ending.OUTPUT_LIMIT: CodeStatus.OUTPUT_LIMIT,
    Ending.SCRATCH_LIMIT: CodeStatus.KILLED,
    Ending.DIED: CodeStatus.KILLED,
    Ending.PROTOCOL: CodeStatus.KILLED,
}


class CodeRefused(RuntimeError):
    """A block was not run, for no fault of its own; the row can be retried."""


@dataclass(frozen=True, kw_only=True)
class CodeResult:
    """``text`` is what the model sees: what was printed and, after an error, the error's type and message.

    ``wall_s`` and ``cpu_s`` are this block's, ``peak_mib`` the session's (libraries included). ``state_kept``: the names
    of this block and those before are there for the next. ``num_replayed`` earlier blocks were run again before this one, after
    a kill; if they could not be, this block ran without their names, and ``state_kept`` is false.
    ``tier`` is the isolation it ran in.
    """

    status: CodeStatus
    text: str
    error_type: str = ""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mib: float = 0.0
    state_kept: bool = True
    num_replayed: int = 0
    tier: Tier = Tier.NONE


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


def result_of(raw: Raw, config: ExecutorConfig, tier: Tier, *, num_replayed: int, state_lost: bool) -> CodeResult:
    """The result of a block that was run; ``state_lost``: without the names of those before."""
    return CodeResult(
        status=_STATUS[raw.ending],
        text=_presentable(raw, config),
        error_type=raw.error_type,
        wall_s=raw.wall_s,
        cpu_s=raw.cpu_s,
        peak_mib=raw.peak_mib,
        state_kept=raw.ending in ALIVE_AFTER and not state_lost,
        num_replayed=num_replayed,
        tier=tier,
    )


def refusal(why: str) -> CodeResult:
    """The result of a block that was not run."""
    return CodeResult(status=CodeStatus.REFUSED, text=f"Error: not run: {why}", state_kept=False)


def _presentable(raw: Raw, config: ExecutorConfig) -> str:
    printed = text.shown(raw.output, cut=raw.cut, max_chars=config.max_output_chars)
    match raw.ending:
        case Ending.OK:
            return printed
        case Ending.ERROR:
            message = text.clean(raw.message)[: config.max_output_chars]
            kind = text.clean(raw.error_type)
            return text.with_error(printed, f"{kind}: {message}" if message else kind)
        case Ending.TIMEOUT | Ending.HARD_TIMEOUT:
            return text.with_error(printed, text.TIMED_OUT.format(seconds=config.timeout_s))
        case Ending.OUTPUT_LIMIT:
            return text.with_error(printed, text.TOO_MUCH_OUTPUT)
        case _:
            return text.with_error(printed, text.KILLED)
