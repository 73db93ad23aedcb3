"""Many sessions, some hostile, while executors are killed: nothing may come out wrong and nothing may be left over."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import ray

from actors import remote
from actors.code_executor import CodeStatus, ExecutorConfig, ExecutorState
from actors.code_executor.containment import LIMITS, Bait, Case
from actors.code_executor.inside.scratch import PREFIX
from actors.remote import NOTIFY_AFTER_S, ActorLost, Handles, Services

IN_FLIGHT = 24
HOSTILE_SHARE = 0.1
SYMPY_SHARE = 0.2
SAY_EVERY_S = 30.0
SETTLE_S = 10.0


@dataclass
class Tally:
    """What happened; ``wrong`` and ``left`` must stay empty."""

    sessions: int = 0
    hostile: int = 0
    retried: int = 0
    replayed: int = 0
    executors_killed: int = 0
    fork_servers_killed: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def row(self) -> dict[str, object]:
        return {"benchmark": "soak", "sessions": self.sessions, "wrong": len(self.wrong), "left": len(self.left)}


def benign(number: int, rng: random.Random) -> list[tuple[str, str | None]]:
    """Blocks and the text that each must give."""
    if rng.random() < SYMPY_SHARE:
        root = number + 1
        return [
            ("from sympy import symbols, solve, expand\nx = symbols('x')", ""),
            (f"p = expand((x - {root}) * (x + {root}))\nprint(p)", f"x**2 - {root * root}"),
            ("print(solve(p, x))", f"[-{root}, {root}]"),
        ]
    return [
        (f"total = {number}", ""),
        ("total *= 3\nprint(total)", str(3 * number)),
        ("assert total % 3 == 0\nprint('before')\nundefined", "before\nNameError: name 'undefined' is not defined"),
        ("print(total + 1)", str(3 * number + 1)),
    ]


async def soak(handles: Handles, cases: Sequence[Case], num_sessions: int, kill_every_s: float, seed: int, bait: Bait) -> Tally:
    """Sessions in flight all the time; every so often an executor's process, or its fork server, is killed."""
    rng = random.Random(seed)
    runner = handles.runner()
    tally = Tally()
    plan = iter([(number, rng.random() < HOSTILE_SHARE, random.Random(rng.random())) for number in range(num_sessions)])
    done = asyncio.Event()

    async def attempt(number: int, script: list[tuple[str, str | None]]) -> None:
        session = await runner.open()
        try:
            for code, wanted in script:
                result = await runner.run(session, code)
                tally.statuses[result.status] += 1
                tally.replayed += result.num_replayed > 0
                if result.status is CodeStatus.REFUSED:
                    raise ActorLost(result.text)
                if wanted is not None and result.text != wanted:
                    tally.wrong.append(f"session {number}: {code!r} gave {result.status} {result.text!r}, not {wanted!r}")
                    print(f"problem: {tally.wrong[-1]}", flush=True)
        finally:
            await runner.close(session)

    async def one(number: int, hostile: bool, own: random.Random) -> None:
        case = own.choice(cases) if hostile and cases else None
        script: list[tuple[str, str | None]] = [(_filled(block, bait), None) for block in case.blocks] if case else benign(number, own)
        while True:
            try:
                await attempt(number, script)
                break
            except ActorLost:
                tally.retried += 1
        tally.sessions += 1
        tally.hostile += case is not None

    async def work() -> None:
        for number, hostile, own in plan:
            await one(number, hostile, own)

    async def kill() -> None:
        while not done.is_set():
            finished = tally.sessions
            await asyncio.sleep(kill_every_s * (0.5 + rng.random()))
            if tally.sessions == finished:  # where executors start slowly none would ever serve anything
                continue
            try:
                state: ExecutorState = await rng.choice(handles.executors).state.remote()
            except ray.exceptions.RayActorError:
                continue
            if rng.random() < 0.5 or state.fork_server_pid is None:
                os.kill(state.pid, signal.SIGKILL)
                tally.executors_killed += 1
            else:
                _kill(state.fork_server_pid)
                tally.fork_servers_killed += 1

    async def say() -> None:
        began = time.monotonic()
        while not done.is_set():
            await asyncio.sleep(SAY_EVERY_S)
            rate = tally.sessions / (time.monotonic() - began)
            print(f"soak: {tally.sessions}/{num_sessions} sessions, {rate:.0f}/s, {len(tally.wrong)} wrong", flush=True)

    helpers = [asyncio.create_task(say())] + ([asyncio.create_task(kill())] if kill_every_s else [])
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    await asyncio.sleep(2 * NOTIFY_AFTER_S)  # for the executors to be notified of the last ends
    done.set()
    for helper in helpers:
        helper.cancel()
    return tally


def _filled(block: str, bait: Bait) -> str:
    tokens = bait.tokens(bait.victim.pid)
    return re.sub(r"@@(\w+)@@", lambda match: tokens[match.group(1)], block)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def soak_benchmark(config: ExecutorConfig, cases: Sequence[Case], num_sessions: int, kill_every_s: float, seed: int) -> Tally:
    """Prints a table; Ray must be connected, on this machine."""
    config = config.model_copy(update={name: getattr(LIMITS, name) for name in ("timeout_s", "memory_mib", "scratch_mib")})
    bait = Bait()
    began = time.monotonic()
    handles = remote.start(Services(executors=config))
    try:
        before = _states(handles)
        tally = asyncio.run(soak(handles, cases, num_sessions, kill_every_s, seed, bait))
        seconds = time.monotonic() - began
        tally.left += wait_until_nothing(lambda: _left_by(handles, config.spares))
        after = _states(handles)
        tally.left += bait.touched()
    finally:
        remote.stop(handles)
        bait.close()
    tally.left += wait_until_nothing(lambda: [f"folder {path}" for path in Path(config.scratch_parent).glob(f"{PREFIX}*")])
    rows: list[tuple[str, Any]] = [
        ("sessions", f"{tally.sessions:,} ({tally.hostile:,} hostile)"),
        ("blocks by status", ", ".join(f"{status} {number:,}" for status, number in tally.statuses.most_common())),
        ("executors killed / fork servers killed", f"{tally.executors_killed} / {tally.fork_servers_killed}"),
        ("sessions retried / blocks after a replay", f"{tally.retried} / {tally.replayed}"),
        ("wrong outputs", len(tally.wrong)),
        ("left over (processes, folders, sessions, touched bait)", len(tally.left)),
        (
            "descriptors of an executor, before -> after",
            f"{[one.num_descriptors for one in before]} -> {[one.num_descriptors for one in after]}",
        ),
        (
            "resident MiB of an executor, before -> after",
            f"{[round(one.resident_mib) for one in before]} -> {[round(one.resident_mib) for one in after]}",
        ),
        ("sessions/s", f"{tally.sessions / seconds:.0f}"),
    ]
    for name, value in rows:
        print(f"{name:55} {value}")
    for problem in tally.left:
        print("problem:", problem)
    return tally


def wait_until_nothing(left: Callable[[], list[str]]) -> list[str]:
    """What is left over, as soon as it is nothing or after SETTLE_S seconds."""
    deadline = time.monotonic() + SETTLE_S
    while (found := left()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _left_by(handles: Handles, spares: int) -> list[str]:
    left = []
    try:
        executors = _states(handles)
    except ray.exceptions.RayActorError as error:  # one was killed just before the end and is being restarted
        return [str(error)]
    for one in executors:
        if one.num_sessions or one.num_processes:
            left.append(f"{one.num_sessions} sessions, {one.num_processes} processes in executor {one.pid}")
        strays = [child for child in psutil.Process(one.pid).children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
        if len(strays) > 3 + spares:  # the fork server, in a bubblewrap with its init
            left.append(f"{len(strays)} processes below executor {one.pid}")
    return left


def _states(handles: Handles) -> list[ExecutorState]:
    states: list[ExecutorState] = ray.get([handle.state.remote() for handle in handles.executors])
    return states
