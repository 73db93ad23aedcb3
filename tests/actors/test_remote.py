"""Choosing among executors, with actors played by plain objects."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.code_executor import CodeRefused, CodeResult, CodeStatus
from actors.code_turns import CodeTurn, write_with_code
from actors.engine import Completion, Finish, Request, Sampling, Turn
from actors.remote import RemoteExecutors


class Method:
    """Notes its calls; can be awaited or not, as a Ray call can."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self._name, self._calls = name, calls

    def remote(self, *_: Any) -> asyncio.Future[CodeResult]:
        self._calls.append(self._name)
        answer: asyncio.Future[CodeResult] = asyncio.get_running_loop().create_future()
        answer.set_result(CodeResult(status=CodeStatus.OK, text=self._name))
        return answer


class Actor:
    """What a handle to a CodeExecutor looks like."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.begin, self.run, self.close = (Method(name, self.calls) for name in ("begin", "run", "close"))


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


def test_an_executor_hears_of_a_session_with_its_first_block() -> None:
    actor = Actor()

    async def run() -> None:
        runner = RemoteExecutors([actor])
        unused, used = await runner.open(), await runner.open()
        assert [(await runner.run(used, "1")).text, (await runner.run(used, "2")).text] == ["begin", "run"]
        await runner.close(used)
        await runner.close(unused)

    asyncio.run(run())
    assert actor.calls == ["begin", "run", "close"]


def test_a_refused_block_is_no_output() -> None:
    class Refusing:
        async def open(self) -> str:
            return "s"

        async def run(self, session: str, code: str) -> CodeResult:
            return CodeResult(status=CodeStatus.REFUSED, text="Error: not run: gone")

        async def close(self, session: str) -> None:
            pass

    class Writing:
        async def generate(self, request: Request) -> list[Completion]:
            return [Completion(text="```python\nprint(1)\n```\n", finish=Finish.STOP, num_tokens=3)]

        def close(self) -> None:
            pass

    turn = CodeTurn()
    with pytest.raises(CodeRefused, match="not run: gone"):
        asyncio.run(
            write_with_code(
                turn, engine=Writing(), runner=Refusing(), session="s", turns=(Turn(role="user", content="u"),), until=("</verify>",),
                sampling=Sampling(max_tokens=50), seed=0, max_code_rounds=2,
            )
        )  # fmt: skip
    assert "gone" not in turn.text
