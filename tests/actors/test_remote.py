"""Choosing among executors, with actors played by plain objects."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import psutil
import pytest
from ray.exceptions import ActorUnavailableError

from actors import remote
from actors.code_executor import CodeResult, CodeStatus, ExecutorConfig
from actors.engine import Completion, Request, Sampling, Turn
from actors.remote import ActorLost, RemoteEngine, RemoteExecutors, Services


class Method:
    """Notes its calls; can be awaited or not, as a Ray call can."""

    def __init__(self, name: str, calls: list[tuple[Any, ...]]) -> None:
        self._name, self._calls = name, calls

    def remote(self, *arguments: Any) -> asyncio.Future[CodeResult]:
        self._calls.append((self._name, *arguments))
        answer: asyncio.Future[CodeResult] = asyncio.get_running_loop().create_future()
        answer.set_result(CodeResult(status=CodeStatus.OK, text=self._name))
        return answer


class Actor:
    """What a handle to a CodeExecutor looks like."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.serve, self.close = (Method(name, self.calls) for name in ("serve", "close"))


def test_sessions_go_to_the_executor_with_the_fewest() -> None:
    actors = [Actor(), Actor(), Actor()]

    async def run() -> list[str]:
        runner = RemoteExecutors(actors)
        sessions = [await runner.open() for _ in range(6)]
        await runner.close(sessions[1])
        await runner.close(sessions[4])
        return [*sessions, *[await runner.open() for _ in range(2)]]

    numbers = [session.partition(":")[0] for session in asyncio.run(run())]
    assert numbers == ["0", "1", "2", "0", "1", "2", "1", "1"]


def test_an_executor_hears_of_a_session_with_a_block_and_of_the_last_end_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "NOTIFY_AFTER_S", 0.01)
    actor = Actor()

    async def run() -> tuple[str, str]:
        runner = RemoteExecutors([actor])
        unused, first, second = [await runner.open() for _ in range(3)]
        await runner.run(first, "1")
        await runner.run(first, "2")
        await runner.close(first)
        await runner.close(unused)
        await runner.run(second, "3")
        await runner.close(second)
        await asyncio.sleep(0.1)
        return first.removeprefix("0:"), second.removeprefix("0:")

    first, second = asyncio.run(run())
    assert actor.calls == [
        ("serve", first, "1", True, []),
        ("serve", first, "2", False, []),
        ("serve", second, "3", True, [first]),
        ("close", second),
    ]


def test_an_end_that_was_not_heard_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "NOTIFY_AFTER_S", 0.05)
    actor = Actor()
    actor.__ray_ready__ = Method("ready", actor.calls)  # type: ignore[attr-defined]

    class Lost(Method):
        def remote(self, *arguments: Any) -> asyncio.Future[CodeResult]:
            super().remote(*arguments)
            answer: asyncio.Future[CodeResult] = asyncio.get_running_loop().create_future()
            answer.set_exception(ActorUnavailableError("away", None))
            return answer

    async def run() -> str:
        runner = RemoteExecutors([actor])
        first, second = await runner.open(), await runner.open()
        await runner.run(first, "1")
        await runner.close(first)
        heard, actor.serve = actor.serve, Lost("serve", actor.calls)
        with pytest.raises(ActorLost):
            await runner.run(second, "2")
        actor.serve = heard
        await asyncio.sleep(0.2)
        return first.removeprefix("0:")

    first = asyncio.run(run())
    assert actor.calls[-1] == ("close", first)


class Host:
    """What a handle to an engine's actor looks like: it answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Request, asyncio.Future[list[Completion]]]] = []
        self.generate = self

    def remote(self, request: Request) -> asyncio.Future[list[Completion]]:
        answer: asyncio.Future[list[Completion]] = asyncio.get_running_loop().create_future()
        self.asked.append((request, answer))
        return answer


def test_requests_go_to_the_engine_with_the_fewest_completions_to_write() -> None:
    hosts = [Host(), Host()]

    def asking(n: int) -> Request:
        return Request(turns=(Turn(role="user", content="?"),), prefix="", sampling=Sampling(), seed=0, n=n)

    async def run() -> None:
        engine = RemoteEngine(hosts)
        tasks = [asyncio.create_task(engine.generate(asking(n))) for n in (8, 2, 2, 2, 2)]
        await asyncio.sleep(0)
        assert [[request.n for request, _ in host.asked] for host in hosts] == [[8], [2, 2, 2, 2]]
        hosts[0].asked[0][1].set_result([])
        await tasks[0]
        tasks.append(asyncio.create_task(engine.generate(asking(1))))
        await asyncio.sleep(0)
        assert [len(host.asked) for host in hosts] == [2, 4]
        for host in hosts:
            for _, answer in host.asked:
                if not answer.done():
                    answer.set_result([])
        await asyncio.gather(*tasks)

    asyncio.run(run())


def executors() -> list[psutil.Process]:
    """The processes of executors' actors that are ours."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # one that ends just now
            if " ".join(process.cmdline()).startswith("ray::CodeExecutorHost"):
                found.append(process)
    return found


@pytest.mark.ray
def test_an_executor_whose_process_is_stopped_is_restarted(local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SILENCE_S", 6.0)
    handles = remote.start(Services(executors=ExecutorConfig(num_cpus=0.5, timeout_s=60.0, preload=(), libraries=("mpmath",))))
    runner = handles.runner()

    async def ask() -> str:
        session = await runner.open()
        return (await runner.run(session, "import time\ntime.sleep(7)\nprint(1 + 1)")).text

    try:
        assert asyncio.run(ask()) == "2"  # longer than SILENCE_S: it answers otherwise
        (process,) = executors()
        process.suspend()
        with pytest.raises(ActorLost, match=r"code executor 0 did not answer for 6 s; it is killed and restarted"):
            asyncio.run(ask())
        assert asyncio.run(ask()) == "2"
        assert not process.is_running()
    finally:
        remote.stop(handles)
