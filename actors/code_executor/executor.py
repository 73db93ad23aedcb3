"""Sessions of model-written code: opened, run block by block, closed.

A session's process is forked when its first block comes and stopped between blocks. When it was killed, or had to make room,
its earlier successful blocks are run again before the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import resource
import sys
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from actors.code_executor.config import ExecutorConfig, Tier
from actors.code_executor.inside.scratch import sweep
from actors.code_executor.isolation import Isolation, choose
from actors.code_executor.runner import CodeResult, refusal, result_of
from actors.code_executor.server import Canaries, ForkServer, ServerDied
from actors.code_executor.session_process import ALIVE_AFTER, Ending, Raw, SessionProcess

BYTES_A_CHARACTER = 4
FIRST_PAUSE_S, LONGEST_PAUSE_S, MAX_STARTS = 0.2, 5.0, 6
ABANDONED_AFTER = 10
"""Times ``idle_s``: a session unused for so long is closed: its caller must be gone."""
SPAWNS_A_CPU = 2
"""Begun side by side: much of it is waiting. Few, so that blocks of sessions that live do not wait behind them."""
SPAWN_ATTEMPTS = 3
DESCRIPTORS = 5


class HistoryLost(RuntimeError):
    """The earlier blocks of a session did not run again as they had: its names are gone."""


@dataclass(frozen=True, kw_only=True)
class ExecutorState:
    """What an executor is at: its process, the fork server's, open sessions, those with a process, descriptors, resident MiB."""

    pid: int
    fork_server_pid: int | None
    num_sessions: int
    num_processes: int
    num_descriptors: int
    resident_mib: float


@dataclass
class _Session:
    """``history`` are the blocks that can be run again, and their seconds; ``lost`` says that they must be; ``used``: when last."""

    process: SessionProcess | None = None
    history: list[tuple[str, float]] = field(default_factory=list)
    lost: bool = False
    used: float = field(default_factory=time.monotonic)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class CodeExecutor:
    """Owns a fork server and its sessions. Blocks beyond the reserved CPUs wait their turn.

    ``start`` (or the first ``open``) raises ValueError if the machine can't isolate as well as the configuration wants.
    ``skip`` leaves layers of isolation out, for tests.
    """

    def __init__(self, config: ExecutorConfig, *, skip: tuple[str, ...] = ()) -> None:
        self._config = config
        self._skip = skip
        self._ids = itertools.count()
        self._sessions: dict[str, _Session] = {}
        self._live: OrderedDict[str, SessionProcess] = OrderedDict()
        cpus = max(1, math.ceil(config.num_cpus))
        self._running = asyncio.Semaphore(cpus)
        self._spawning = asyncio.Semaphore(SPAWNS_A_CPU * cpus)
        self._at_work = asyncio.Semaphore(config.max_sessions)  # these keep their process
        self._starting = asyncio.Lock()
        self._server: ForkServer | None = None
        self._isolation: Isolation | None = None
        self._canaries: Canaries | None = None
        self._spares: list[SessionProcess] = []
        self._refilling: asyncio.Task[None] | None = None
        self._resting: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Start the fork server and find out how well it isolates, once; the finding in words."""
        async with self._starting:
            if self._isolation is None:
                _allow_descriptors((self._config.max_sessions + self._config.spares) * DESCRIPTORS + 100)
                sweep(self._config.scratch_parent)
                self._server, self._isolation, self._canaries = await choose(self._config, self._skip)
                weak = self._isolation.tier.strength < Tier.STANDARD.strength
                print(f"code executor: {'WARNING: only ' if weak else ''}{self._isolation}", file=sys.stderr, flush=True)
                self._refilling = asyncio.create_task(self._refill())
        return str(self._isolation)

    @property
    def isolation(self) -> Isolation | None:
        return self._isolation

    @property
    def fork_server(self) -> ForkServer | None:
        return self._server

    async def open(self) -> str:
        await self.start()
        session = f"session-{next(self._ids)}"
        self._sessions[session] = _Session()
        return session

    async def run(self, session: str, code: str) -> CodeResult:
        live = self._sessions[session]
        async with self._at_work, live.turn:
            try:
                return await self._run(session, live, code)
            finally:
                if session not in self._sessions:  # closed meanwhile
                    self._let_go(session, live)

    async def serve(self, session: str, code: str, is_new: bool, ended: Sequence[str]) -> CodeResult:
        """Close the sessions that ``ended``, open this one under the caller's name if it is new, and run the block.

        One call, for remote callers to whom each is a round trip.
        """
        await self.close(*ended)
        if is_new:
            self._sessions[session] = _Session()
        await self.start()
        return await self.run(session, code)

    async def close(self, *sessions: str) -> None:
        for session in sessions:
            live = self._sessions.pop(session, None)
            if live is not None:
                self._let_go(session, live)

    async def state(self) -> ExecutorState:
        """For those who watch."""
        return ExecutorState(
            pid=os.getpid(),
            fork_server_pid=self._server.pid if self._server is not None and self._server.alive else None,
            num_sessions=len(self._sessions),
            num_processes=len(self._live),
            num_descriptors=len(os.listdir("/proc/self/fd")),
            resident_mib=int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20),
        )

    async def shutdown(self) -> None:
        await self.close(*self._sessions)
        helpers = [helper for helper in (self._refilling, self._resting) if helper is not None]
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        while self._spares:
            self._spares.pop().close()
        if self._server is not None:
            await self._server.close()
        sweep(self._config.scratch_parent)  # of executors on this machine that were killed and won't start again

    async def _run(self, name: str, session: _Session, code: str) -> CodeResult:
        num_replayed, state_lost = 0, False
        for _ in range(SPAWN_ATTEMPTS):
            if name not in self._sessions:
                return refusal("the session was closed")
            try:
                num_replayed = await self._revive(name, session)
            except HistoryLost:
                self._let_go(name, session)
                session.history.clear()
                session.lost, state_lost = False, True
                refused = refusal("its earlier blocks could not be run again")
                continue
            except (ServerDied, OSError) as error:
                self._let_go(name, session)
                refused = refusal(str(error))
                continue
            assert session.process is not None
            raw = await self._run_raw(session.process, code)
            if raw.ending is Ending.DIED and not await self._server_answers():
                self._let_go(name, session)  # not the code's doing: the fork server took the session along
                refused = refusal("the fork server died")
                continue
            return self._finish(name, session, code, raw, num_replayed, state_lost)
        return refused

    async def _server_answers(self) -> bool:
        """Whether the fork server lives, by asking it: a session's end may be seen before its server's."""
        if self._server is None:
            return False
        try:
            await self._server.measure(-1)
        except (ServerDied, TimeoutError):
            return False
        return True

    async def _run_raw(self, process: SessionProcess, code: str) -> Raw:
        async with self._running:
            raw = await process.run(
                code,
                soft_s=self._config.timeout_s,
                keep_bytes=BYTES_A_CHARACTER * self._config.max_output_chars + BYTES_A_CHARACTER,
                limit_bytes=int(self._config.output_limit_mib * (1 << 20)),
                over_quota=partial(self._over_quota, process.number),
            )
        if raw.ending in ALIVE_AFTER:
            with contextlib.suppress(ServerDied, TimeoutError):
                if await self._over_quota(process.number):
                    process.kill(Ending.SCRATCH_LIMIT)
                    return replace(raw, ending=Ending.SCRATCH_LIMIT)
        return raw

    async def _over_quota(self, number: int) -> bool:
        assert self._server is not None
        size, files = await self._server.measure(number)
        return size > self._config.scratch_mib * (1 << 20) or files > self._config.scratch_files

    async def _revive(self, name: str, session: _Session) -> int:
        """Make sure that the session has a process with its names in it; how many blocks were run again for that."""
        session.used = time.monotonic()
        if session.process is not None and session.process.alive:
            self._live.move_to_end(name)
            return 0
        self._let_go(name, session)
        process = await self._new_process()
        if name not in self._sessions:
            process.close()
            raise OSError("the session was closed")
        session.process = self._live[name] = process
        if self._resting is None:
            self._resting = asyncio.create_task(self._end_idle())
        while len(self._live) > self._config.max_sessions and self._make_room(name):
            pass
        if not session.lost:
            return 0
        budget = min(self._config.session_cpu_s, self._config.timeout_s + 2 * sum(seconds for _, seconds in session.history))
        for block, _ in session.history:
            raw = await self._run_raw(process, block)
            budget -= raw.wall_s
            if raw.ending is Ending.DIED and not await self._server_answers():
                raise ServerDied("the fork server died")
            if raw.ending not in ALIVE_AFTER or budget < 0:
                raise HistoryLost
        session.lost = False
        return len(session.history)

    async def _new_process(self) -> SessionProcess:
        """A spare if there is one, else one forked now; another spare is begun."""
        process = None
        while self._spares and process is None:
            spare = self._spares.pop()
            if spare.alive:
                process = spare
            else:
                spare.close()
        if process is None:
            process = await self._spawn()
        if len(self._spares) < self._config.spares and (self._refilling is None or self._refilling.done()):
            self._refilling = asyncio.create_task(self._refill())
        return process

    async def _refill(self) -> None:
        with contextlib.suppress(ServerDied, OSError):  # said where a session is needed
            while len(self._spares) < self._config.spares:
                self._spares.append(await self._spawn())

    async def _spawn(self) -> SessionProcess:
        """A confined process; OSError if it does not have the layers that the probe found."""
        async with self._spawning:
            process = await (await self._living_server()).spawn()
            assert self._isolation is not None
            try:
                if await process.ready() and process.layers == self._isolation.applied:
                    return process
            except BaseException:
                process.close()
                raise
            process.close()
        raise OSError("a session did not come up with the layers that it must have")

    async def _end_idle(self) -> None:
        """End processes that have rested for too long: their caller may be dead."""
        while True:
            await asyncio.sleep(self._config.idle_s / 4)
            now = time.monotonic()
            for name, session in list(self._sessions.items()):
                if session.turn.locked():
                    continue
                if now - session.used > ABANDONED_AFTER * self._config.idle_s:
                    await self.close(name)
                elif now - session.used > self._config.idle_s:
                    self._let_go(name, session)

    def _make_room(self, keep: str) -> bool:
        """End the process that has rested longest; its session is rebuilt when its next block comes. False if all are busy."""
        for name in self._live:
            session = self._sessions.get(name)
            if name != keep and session is not None and not session.turn.locked():
                self._let_go(name, session)
                return True
        return False

    async def _living_server(self) -> ForkServer:
        """The fork server, restarted with growing pauses if it died."""
        await self.start()
        async with self._starting:
            pause = FIRST_PAUSE_S
            for attempt in range(MAX_STARTS):
                if self._server is not None and self._server.alive:
                    return self._server
                assert self._server is not None
                assert self._canaries is not None
                if attempt:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_S)
                with contextlib.suppress(ServerDied):
                    self._server = await ForkServer.start(self._config, self._server.surroundings, self._canaries)
        raise ServerDied(f"the fork server could not be started {MAX_STARTS} times in a row")

    def _let_go(self, name: str, session: _Session) -> None:
        """End a session's process, if it has one; what it knew is to be replayed."""
        self._live.pop(name, None)
        if session.process is not None:
            session.process.close()
            session.process = None
            session.lost = bool(session.history)

    def _finish(self, name: str, session: _Session, code: str, raw: Raw, num_replayed: int, state_lost: bool) -> CodeResult:
        if raw.ending is Ending.OK:
            session.history.append((code, raw.wall_s))
        if raw.ending not in ALIVE_AFTER:
            self._let_go(name, session)
        tier = self._isolation.tier if self._isolation is not None else Tier.NONE
        return result_of(raw, self._config, tier, num_replayed=num_replayed, state_lost=state_lost)


def _allow_descriptors(number: int) -> None:
    """Raise this process's soft limit of open files, as far as its hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
