"""GenPRM from Python: three lines, bad input, many at a time."""

from __future__ import annotations

import pytest

from actors.code_executor import ExecutorConfig
from actors.engine import ScriptedEngineConfig
from actors.prm import GenPRM
from actors.verifier import VerifierConfig
from genprm.rationale import Verdict
from genprm.records import SegmentKind

ENGINE = ScriptedEngineConfig(script="tests.actors.test_verifier:judge_script")


def prm(num_votes: int = 1) -> GenPRM:
    return GenPRM(ENGINE, VerifierConfig(num_votes=num_votes), ExecutorConfig(libraries=("mpmath",), preload=()))


def test_steps_are_judged_with_rewards_verdicts_and_rationales() -> None:
    with prm(num_votes=2) as judge:
        steps = judge.judge("P", ["a", "b", "c"])
        short = judge.judge("P", ["a", "b", "c"], stop_at_first_error=True)
        many = judge.judge_all([("P", ["a", "b"]), ("Q", ["a"])])
    assert [step.reward for step in steps] == [pytest.approx(0.9), pytest.approx(0.1), pytest.approx(0.9)]
    assert [step.verdict for step in steps] == [Verdict.YES, Verdict.NO, Verdict.YES]
    assert [len(step.votes) for step in steps] == [2, 2, 2]
    assert [segment.text for segment in steps[1].votes[0].segments if segment.kind is SegmentKind.OUTPUT] == [
        "[Code Output]\n\n```\nFalse\n```\n"
    ]
    judge.close()
    with pytest.raises(RuntimeError, match="closed"):
        judge.judge("P", ["a"])
    assert len(short) == 2
    assert [len(found) for found in many] == [2, 1]


def test_what_can_not_be_judged_is_said() -> None:
    with prm() as judge:
        for steps in ([], "a text", ["a", " "]):
            with pytest.raises(ValueError, match="give a list of texts, one a step"):
                judge.judge("P", steps)
    with pytest.raises(ValueError, match="OPENAI_KEY_THAT_IS_NOT_THERE"):
        GenPRM.at("http://127.0.0.1:9/v1", "m", api_key_env="OPENAI_KEY_THAT_IS_NOT_THERE")
