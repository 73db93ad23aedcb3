"""Turns with pauses for code: when a block is run, and when the turn is over."""

from __future__ import annotations

import asyncio

import pytest

from actors.code_executor import CodeRefused, CodeResult, CodeStatus
from actors.code_turns import CodeTurn, Ending, write_with_code
from actors.engine import Completion, Finish, Request, Sampling, Turn
from actors.engine.scripted_engine import ScriptedEngine


class Runner:
    """Gives every block the same result; keeps what it was asked to run."""

    def __init__(self, result: CodeResult) -> None:
        self.result = result
        self.run_codes: list[str] = []

    async def open(self) -> str:
        return "session"

    async def run(self, session: str, code: str) -> CodeResult:
        self.run_codes.append(code)
        return self.result

    async def close(self, session: str) -> None:
        pass


def write(texts: list[str], runner: Runner) -> tuple[CodeTurn, Ending]:
    """A turn in which the model writes these texts, one a request, each up to a stop string or to its own end."""
    left = iter(texts)

    def script(_: Request) -> list[Completion]:
        text = next(left)
        return [Completion(text=text, finish=Finish.STOP, num_tokens=len(text.split()))]

    turn = CodeTurn()
    ending = asyncio.run(
        write_with_code(
            turn, engine=ScriptedEngine(script), runner=runner, session="session", turns=(Turn(role="user", content="u"),),
            until=("</verify>",), sampling=Sampling(max_tokens=50), seed=0, max_code_rounds=2,
        )
    )  # fmt: skip
    assert next(left, None) is None, "as many requests as texts"
    return turn, ending


def printing(text: str) -> Runner:
    return Runner(CodeResult(status=CodeStatus.OK, text=text))


def test_the_output_of_a_block_stands_after_it_and_the_model_goes_on() -> None:
    runner = printing("3")
    turn, ending = write(["```python\nprint(1 + 2)\n```\n", "Right.\n</verify>"], runner)
    assert (runner.run_codes, ending) == (["print(1 + 2)\n"], Ending.WANTED)
    assert turn.text == "```python\nprint(1 + 2)\n```\n[Code Output]\n\n```\n3\n```\nRight.\n</verify>"


def test_a_turn_that_ends_with_a_block_has_it_run() -> None:
    """The model ends its turn without a line end after the closing fence."""
    runner = printing("3")
    turn, ending = write(["```python\nprint(1 + 2)\n```", ""], runner)
    assert (runner.run_codes, ending) == (["print(1 + 2)\n"], Ending.END_OF_TURN)
    assert turn.text.endswith("[Code Output]\n\n```\n3\n```\n")


@pytest.mark.parametrize("last", [["```\nas told\n```"], ["```\nas told\n```\n", ""]], ids=["at the end", "before the end"])
def test_a_fence_of_no_python_is_not_run_and_the_turn_ends_where_the_model_ends_it(last: list[str]) -> None:
    runner = printing("3")
    turn, ending = write(last, runner)
    assert (runner.run_codes, ending, turn.text) == ([], Ending.END_OF_TURN, "".join(last))


def test_a_refused_block_is_no_output() -> None:
    runner = Runner(CodeResult(status=CodeStatus.REFUSED, text="Error: not run: gone"))
    with pytest.raises(CodeRefused, match="not run: gone"):
        write(["```python\nprint(1)\n```\n"], runner)
