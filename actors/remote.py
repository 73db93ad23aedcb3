"""Code executors and engines as Ray actors, behind the interfaces they have in-process: all of actors/ that knows Ray."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
import uuid
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError
from ray.util.metrics import Counter, Histogram

from actors.code_executor import CodeExecutor, CodeResult, ExecutorConfig
from actors.engine import Completion, Engine, EngineConfig, EngineDied, Request, open_engine
from actors.engine.config import process_gpus

T = TypeVar("T")
SHUTDOWN_TIMEOUT_S = 10.0
RESTART_PATIENCE_S = 900.0
"""A large model takes minutes to load."""
NOTIFY_AFTER_S = 0.05
"""After it an executor is notified of sessions that ended, if no block went there meanwhile."""
SILENCE_S = 120.0
"""An actor that is asked for longer is asked whether it is there, and has as long to answer."""


class ActorLost(RuntimeError):
    """An actor died with a row's work in it; the row can be retried from its beginning."""


async def answer(call: Awaitable[T], handle: Any, what: str) -> T:
    """The result of a call to an actor, however long it takes, as long as the actor answers otherwise.

    Ray notices a process that ended, not one that is stopped or hangs: such a one is killed, so that Ray restarts it. ActorLost then.
    """
    task = asyncio.ensure_future(call)
    try:
        while not (await asyncio.wait({task}, timeout=SILENCE_S))[0]:
            sign = asyncio.ensure_future(handle.__ray_ready__.remote())
            try:
                if not (await asyncio.wait({task, sign}, timeout=SILENCE_S))[0]:
                    ray.kill(handle, no_restart=False)
                    await until_alive(handle)
                    raise ActorLost(f"{what} did not answer for {SILENCE_S:g} s; it is killed and restarted")
            finally:
                sign.cancel()
        return task.result()
    finally:
        task.cancel()  # if nobody waits any more


async def until_alive(handle: Any) -> None:
    """Wait until Ray has restarted a dead actor, so that a row's next try does not find it dead still."""
    began = time.monotonic()
    pause = 0.5
    while True:
        try:
            await handle.__ray_ready__.remote()
        except ActorUnavailableError:
            if time.monotonic() - began > RESTART_PATIENCE_S:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, 10.0)
        except RayActorError:  # dead for good
            return
        else:
            return


class EngineHost:
    """What runs in an engine's actor; exits when the engine dies, so that Ray restarts it."""

    def __init__(self, config: EngineConfig) -> None:
        self._engine = open_engine(config)

    async def generate(self, request: Request) -> list[Completion]:
        try:
            return await self._engine.generate(request)
        except EngineDied as error:
            print(f"engine: {error}; this process exits and is restarted", file=sys.stderr, flush=True)
            os._exit(17)


class CodeExecutorHost(CodeExecutor):
    """What runs in an executor's actor; counts blocks by how they ended, and their seconds, waiting included, as Ray metrics."""

    def __init__(self, config: ExecutorConfig) -> None:
        super().__init__(config)
        self._blocks = Counter("genprm_code_blocks", "Blocks of code that were run, by how they ended", tag_keys=("status",))
        bounds = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
        self._seconds = Histogram("genprm_code_seconds", "Of a block of code, with its wait", boundaries=bounds)

    async def serve(self, session: str, code: str, is_new: bool, ended: Sequence[str]) -> CodeResult:
        began = time.monotonic()
        result = await super().serve(session, code, is_new, ended)
        self._blocks.inc(1, {"status": result.status.value.replace(" ", "_")})
        self._seconds.observe(time.monotonic() - began)
        return result


@dataclass(frozen=True, kw_only=True)
class Engines:
    """``number`` engines of one role."""

    config: EngineConfig
    number: int = 1


@dataclass(frozen=True, kw_only=True)
class Services:
    """What a stage's workers need beside themselves: code executors, and engines by role."""

    executors: ExecutorConfig | None = None
    engines: Mapping[str, Engines] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Handles:
    """The running actors of ``Services``."""

    executors: tuple[Any, ...] = ()
    engines: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def runner(self) -> RemoteExecutors:
        return RemoteExecutors(self.executors)

    def engine(self, role: str) -> Engine:
        return RemoteEngine(self.engines[role])


def start(services: Services) -> Handles:
    """Start the actors and wait until they are ready; the error of one that can't start is raised here."""
    handles = launch(services)
    try:
        wait_until_ready(handles)
    except BaseException:
        stop(handles)
        raise
    return handles


def launch(services: Services) -> Handles:
    """Start the actors, which get ready while other things are started; a dead one is restarted by Ray, without its sessions or
    requests."""
    always = {"max_restarts": -1, "max_concurrency": 1000}
    executors: list[Any] = []
    if services.executors is not None:
        config = services.executors
        spread = {"scheduling_strategy": "SPREAD", **always}
        remote_executor = ray.remote(CodeExecutorHost).options(num_cpus=config.reserved_cpus, resources=config.resources, **spread)
        executors = [remote_executor.remote(services.executors) for _ in range(services.executors.num_executors)]
    engines = {
        role: [_host(role, engines.config, always).remote(engines.config) for _ in range(engines.number)]
        for role, engines in services.engines.items()
    }
    return Handles(executors=tuple(executors), engines=engines)


def wait_until_ready(handles: Handles) -> None:
    """Wait until all actors are ready; the error of one that can't start is raised here."""
    hosts = [host for of_role in handles.engines.values() for host in of_role]
    ray.get([host.__ray_ready__.remote() for host in hosts] + [executor.start.remote() for executor in handles.executors])


def _host(role: str, config: EngineConfig, options: Mapping[str, Any]) -> Any:
    host = type(f"{role.capitalize()}Engine", (EngineHost,), {})  # what the dashboard and a process list call it
    return ray.remote(host).options(num_cpus=config.num_cpus, num_gpus=process_gpus(config), **options)


def stop(handles: Handles) -> None:
    """End the actors; executors first end their sessions and remove their folders, which Ray would not leave their children time for."""
    with contextlib.suppress(RayError):  # one that is dead, or takes too long, is killed below
        ray.get([executor.shutdown.remote() for executor in handles.executors], timeout=SHUTDOWN_TIMEOUT_S)
    for handle in (*handles.executors, *(host for hosts in handles.engines.values() for host in hosts)):
        ray.kill(handle)


class RemoteEngine:
    """Engines in other actors; a request goes to the one that has the fewest of this caller's."""

    def __init__(self, hosts: Sequence[Any]) -> None:
        self._hosts = list(hosts)
        self._in_flight = [0] * len(self._hosts)

    async def generate(self, request: Request) -> list[Completion]:
        number = min(range(len(self._hosts)), key=lambda index: self._in_flight[index])
        self._in_flight[number] += request.n
        try:
            host = self._hosts[number]
            completions: list[Completion] = await answer(host.generate.remote(request), host, "an engine")
        except RayActorError as error:
            await until_alive(self._hosts[number])
            raise ActorLost(f"an engine died: {error}") from error
        finally:
            self._in_flight[number] -= request.n
        return completions

    def count_tokens(self, text: str) -> int | None:
        """None: a remote call would cost more than the count is worth."""
        return None

    def close(self) -> None:
        """The actor belongs to the stage, which stops it."""


class RemoteExecutors:
    """Opens sessions on the actor that has the fewest of this caller's.

    A session id carries the number of its actor. The actor is notified of a session with its first block, and of its end with another
    session's next block or a moment later: a round trip costs more than a block.
    """

    def __init__(self, handles: Sequence[Any]) -> None:
        self._handles = list(handles)
        self._num_open = [0] * len(self._handles)
        self._not_begun: set[str] = set()
        self._ended: list[list[str]] = [[] for _ in self._handles]

    async def open(self) -> str:
        number = min(range(len(self._handles)), key=lambda index: self._num_open[index])
        self._num_open[number] += 1
        session = f"{number}:{uuid.uuid4().hex}"
        self._not_begun.add(session)
        return session

    async def run(self, session: str, code: str) -> CodeResult:
        number, name = _parts(session)
        is_new = session in self._not_begun
        self._not_begun.discard(session)
        ended = self._take_ended(number)
        try:
            executor = self._handles[number]
            result: CodeResult = await answer(executor.serve.remote(name, code, is_new, ended), executor, f"code executor {number}")
        except KeyError as error:  # it was restarted, without its sessions
            raise ActorLost(f"code executor {number} died: {error}") from error
        except RayActorError as error:
            self._note_ended(number, ended)  # it may live, and not have been reached
            await until_alive(self._handles[number])
            raise ActorLost(f"code executor {number} died: {error}") from error
        return result

    async def close(self, session: str) -> None:
        number, name = _parts(session)
        self._num_open[number] -= 1
        if session in self._not_begun:
            self._not_begun.remove(session)
            return
        self._note_ended(number, [name])

    def _note_ended(self, number: int, names: Sequence[str]) -> None:
        if names and not self._ended[number]:
            asyncio.get_running_loop().call_later(NOTIFY_AFTER_S, self._notify_ended, number)
        self._ended[number] += names

    def _take_ended(self, number: int) -> list[str]:
        ended, self._ended[number] = self._ended[number], []
        return ended

    def _notify_ended(self, number: int) -> None:
        ended = self._take_ended(number)
        if ended:
            self._handles[number].close.remote(*ended)


def _parts(session: str) -> tuple[int, str]:
    number, _, name = session.partition(":")
    return int(number), name
