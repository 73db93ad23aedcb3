"""The verifier against scripted engines and the real executor."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

import pytest

from actors.code_executor import CodeResult
from actors.engine import Completion, ContextOverflow, Finish, Request
from actors.engine.scripted_engine import ScriptedEngine
from actors.verifier import Verifier, VerifierConfig, reward_of
from genprm.records import BenchmarkSolution, JudgedSolution, SegmentKind, Vote
from tests.actors.scripts import say, with_code


def verdict(yes: float) -> Completion:
    word = "Yes" if yes >= 0.5 else "No"
    alternatives = {"Yes": math.log(max(yes, 1e-9)), "No": math.log(max(1 - yes, 1e-9))}
    return Completion(text=f"{{{word}}}$\n</output>", finish=Finish.STOP, num_tokens=4, logprobs_T=({"{": -0.1}, alternatives, {"}$": 0.0}))


def judge_script(request: Request) -> list[Completion]:
    """Finds step 2 wrong, by code; writes in the wire format."""
    step = sum(turn.role == "user" for turn in request.turns)
    if request.num_logprobs:
        return [verdict(0.1 if "False" in request.prefix else 0.9)]
    if request.prefix.endswith("```python\n"):
        return [say(f"print({step} != 2)\n```\n")]
    if request.prefix.endswith("step by step: "):
        return [say(f"looking at {step}\n</analyze>")]
    return [say("so it is\n</verify>")]


def judge(config: VerifierConfig, script: Callable[[Request], list[Completion]] = judge_script, stop: bool = True):  # type: ignore[no-untyped-def]
    engine = ScriptedEngine(script)
    row = BenchmarkSolution(id="x", problem="P", steps=("a", "b", "c"), label=1)
    return with_code(lambda code: Verifier(engine=engine, runner=code, config=config, run_seed=0).judge(row, stop_at_first_error=stop))


def test_verifier_finds_the_first_wrong_step_and_stops_there() -> None:
    judged = judge(VerifierConfig(num_votes=2))
    assert judged.rewards_S == (pytest.approx(0.9), pytest.approx(0.1))
    assert (judged.prediction, judged.first_vote_prediction) == (1, 1)
    assert judged.num_code_blocks == 4
    assert judged.votes_S[1][0].text == (
        "<analyze>\nLet's analyze the Paragraph 2 step by step: looking at 2\n</analyze>\n"
        "<verify>\nLet's use python code to find any potential error:\n```python\nprint(2 != 2)\n```\n"
        "[Code Output]\n\n```\nFalse\n```\nso it is\n</verify>\n"
        "<output>\n**Judgement**: $\\boxed{No}$\n</output>"
    )


def test_verifier_scores_every_step_when_asked() -> None:
    assert len(judge(VerifierConfig(), stop=False).rewards_S) == 3


@pytest.mark.parametrize(
    ("mode", "run_code", "has_analysis", "num_outputs", "num_code"),
    [("both", False, True, 0, 3), ("analysis", True, True, 0, 0), ("code", True, False, 3, 3), ("direct", True, False, 0, 0)],
)
def test_modes_of_table_5(mode: str, run_code: bool, has_analysis: bool, num_outputs: int, num_code: int) -> None:
    judged = judge(VerifierConfig(mode=mode, run_code=run_code), stop=False)  # type: ignore[arg-type]
    texts = [votes[0].text for votes in judged.votes_S]
    assert all(("<analyze>" in text) is has_analysis for text in texts)
    assert sum(text.count("[Code Output]") for text in texts) == num_outputs
    assert judged.num_code_blocks == num_code


def test_an_unreadable_verdict_is_no_vote() -> None:
    def script(request: Request) -> list[Completion]:
        return [say("{hmm")] if request.num_logprobs else judge_script(request)

    judged = judge(VerifierConfig(num_votes=2), script)
    assert (judged.rewards_S, judged.prediction, judged.num_unreadable) == ((None,), None, 2)


def test_the_history_of_a_vote_is_its_own() -> None:
    histories: list[str] = []

    def script(request: Request) -> list[Completion]:
        if request.num_logprobs:
            histories.append("|".join(turn.content for turn in request.turns if turn.role == "assistant"))
        if request.prefix.endswith("step by step: "):
            return [say(f"thought {request.seed}\n</analyze>")]
        return judge_script(request)

    judge(VerifierConfig(num_votes=2), script, stop=False)
    last = [history for history in histories if history.count("<output>") == 2]
    assert len(set(last)) == 2
    assert all(history.endswith("</output>\n") for history in last)


def test_the_first_votes_history_can_be_everyones_names_of_its_code_included() -> None:
    """In step 1 every vote defines its own ``who``; in step 2 each prints whose it finds."""
    histories: list[str] = []

    def script(request: Request) -> list[Completion]:
        step = sum(turn.role == "user" for turn in request.turns)
        if request.num_logprobs:
            histories.append("|".join(turn.content for turn in request.turns if turn.role == "assistant"))
            return [verdict(0.9)]
        if request.prefix.endswith("```python\n"):
            return [say(f"who = {request.seed}\n```\n" if step == 1 else "print(who)\n```\n")]
        return judge_script(request)

    def found(history: str) -> set[str]:
        histories.clear()
        judged = judge(VerifierConfig(num_votes=3, history=history), script, stop=False)  # type: ignore[arg-type]
        (lines,) = [[output_of(vote) for vote in votes] for votes in judged.votes_S[1:2]]
        return set(lines)

    assert len(found("own")) == 3
    assert len(set(histories[3:6])) == 3
    assert len(found("first")) == 1
    assert len(set(histories[3:6])) == len(set(histories[6:9])) == 1


def output_of(vote: Vote) -> str:
    (output,) = [segment.text for segment in vote.segments if segment.kind is SegmentKind.OUTPUT]
    return output


def unsure_script(request: Request) -> list[Completion]:
    """Votes that chance decides, by seed: mostly Yes on the first two steps, mostly No on the third."""
    if not request.num_logprobs:
        return judge_script(request)
    step = sum(turn.role == "user" for turn in request.turns)
    return [verdict(float(random.Random(request.seed).random() < (0.85 if step < 3 else 0.2)))]


def test_thrift_casts_fewer_votes_and_decides_as_all_do() -> None:
    def judged_at(sure: float | None, seed: int) -> JudgedSolution:
        config = VerifierConfig(mode="analysis", num_votes=8, history="first", stop_when_sure=sure)
        row = BenchmarkSolution(id=f"x{seed}", problem="P", steps=("a", "b", "c"), label=1)
        verifier = Verifier(engine=ScriptedEngine(unsure_script), runner=NoCode(), config=config, run_seed=seed)
        return asyncio.run(verifier.judge(row, stop_at_first_error=True))

    cast = dict.fromkeys((None, 1.0, 0.9), 0)
    predictions: dict[float | None, list[int | None]] = {sure: [] for sure in cast}
    for seed in range(60):
        for sure in cast:
            judged = judged_at(sure, seed)
            cast[sure] += sum(len(votes) for votes in judged.votes_S)
            predictions[sure].append(judged.prediction)
    assert predictions[1.0] == predictions[None]
    assert cast[1.0] < 0.85 * cast[None]
    assert cast[0.9] < 0.9 * cast[1.0]
    assert sum(a == b for a, b in zip(predictions[0.9], predictions[None], strict=True)) >= 51


class NoCode:
    """A runner that must not be called."""

    async def open(self) -> str:
        raise AssertionError

    async def run(self, session: str, code: str) -> CodeResult:
        raise AssertionError

    async def close(self, session: str) -> None:
        raise AssertionError


def test_thrift_needs_a_shared_history() -> None:
    with pytest.raises(ValueError, match=r"stop_when_sure = 1\.0.*set history = 'first'"):
        VerifierConfig(num_votes=8, stop_when_sure=1.0)


def test_reward_is_read_at_the_verdict_token() -> None:
    assert reward_of(verdict(0.7)) == pytest.approx(0.7)
    assert reward_of(say("{Yes}")) is None


@pytest.mark.parametrize(("wrong", "prediction"), [(2, 1), (9, None)])
def test_judgements_before_the_context_ends_are_kept(wrong: int, prediction: int | None) -> None:
    def script(request: Request) -> list[Completion]:
        if sum(turn.role == "user" for turn in request.turns) == 3:
            raise ContextOverflow("the prompt has 9,000 tokens")
        if request.prefix.endswith("```python\n"):
            step = sum(turn.role == "user" for turn in request.turns)
            return [say(f"print({step} != {wrong})\n```\n")]
        return judge_script(request)

    judged = judge(VerifierConfig(), script, stop=False)
    assert len(judged.rewards_S) == len(judged.votes_S) == 2
    assert judged.prediction == prediction  # not -1: the third step was never judged
