"""What the published GenPRM-7B was asked and wrote, as its notebooks recorded it: our verifier asks the same, to the byte."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from actors.chat_tokenizer import ChatTokenizer
from actors.engine import Completion, Finish, Request
from actors.engine.scripted_engine import ScriptedEngine
from actors.verifier import Verifier, VerifierConfig
from genprm.conversation import assistant_turn
from genprm.records import BenchmarkSolution, Segment, SegmentKind
from genprm.reward import first_wrong_step
from tests.actors.scripts import say, with_code
from tests.shared_data import shared

TEMPLATE = Path("jobs/presets/genprm-release.jinja")
BLOCK = re.compile(r"Start: (paragraph 1 request \d|Model Output|Reward)\n-{40}\n(.*?)\n-{40}\nEnd: \1", re.DOTALL)


def rows() -> list[dict[str, Any]]:
    lines = shared("transcripts/genprm7b_notebook_outputs.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def traces() -> list[tuple[dict[str, Any], list[str], str]]:
    """(row, its requests as they were printed, what the model wrote last) for each vote that was recorded."""
    found = []
    for row in rows():
        blocks = BLOCK.findall("".join(row["outputs"]))
        requests = [text for name, text in blocks if "request" in name]
        written = [text for name, text in blocks if name == "Model Output"]
        last = json.loads(written[0].replace("\n", "\\n"))[0].partition("```python\n")[2] if written else "Yes.\n</verify>\n<output>"
        found += [(row, requests[start : start + 3], last) for start in range(0, len(requests), 3)]
    return found


@pytest.fixture(scope="module")
def chats() -> ChatTokenizer:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("genprm/toy/models/base")
    tokenizer.bos_token = "<｜begin▁of▁sentence｜>"
    tokenizer.chat_template = TEMPLATE.read_text()
    return ChatTokenizer(tokenizer, last_as_earlier=False)


def test_every_recorded_request_is_made_again(chats: ChatTokenizer) -> None:
    recorded = traces()
    assert len(recorded) == 18
    for row, requests, last in recorded:
        one, two, three = (text.replace("\\n", "\n") for text in requests)
        analysis = two.removeprefix(one).partition("</analyze>")[0] + "</analyze>"
        code = three.removeprefix(two).partition("[Code Output]")[0]
        answers = [say(analysis), say(code), say(last.partition("</verify>")[0] + "</verify>")]
        asked: list[str] = []

        def script(request: Request, answers: list[Completion] = answers, asked: list[str] = asked) -> list[Completion]:
            asked.append(chats.prompt_text(request.turns, request.prefix_pieces).replace("\n", "\\n"))
            if request.num_logprobs:
                yes = {"Yes": 0.0, "No": math.log(1e-9)}
                return [Completion(text="{Yes}$\n</output>", finish=Finish.STOP, num_tokens=4, logprobs_T=({"{": 0.0}, yes))]
            return [answers[len(asked) - 1]]

        problem, _, step = row["messages"][1]["content"].partition("\n\n")
        solution = BenchmarkSolution(id="x", problem=f"{problem}\n", steps=(step,), label=-1)
        judged = with_code(
            lambda runner, script=script, solution=solution: Verifier(  # type: ignore[misc]
                engine=ScriptedEngine(script), runner=runner, config=VerifierConfig(), run_seed=0
            ).judge(solution, stop_at_first_error=False)
        )
        assert asked[:3] == requests
        ((vote,),) = judged.votes_S
        kinds = [segment.kind for segment in vote.segments]
        assert kinds == [SegmentKind.TEXT, SegmentKind.CODE, SegmentKind.TEXT, SegmentKind.OUTPUT, SegmentKind.TEXT]
        assert vote.segments[1].text in code
        assert judged.rewards_S[0] == pytest.approx(1.0)
        assert (vote.verdict, judged.prediction) == ("yes", -1)


def test_what_the_model_wrote_is_what_training_would_show() -> None:
    """The recorded turn, code and output put back where the notebook leaves them out, is an assistant turn of ours."""
    for row, requests, last in traces():
        if row["majority_num"] != 1:
            continue
        three = requests[2].replace("\\n", "\n")
        turn = three[three.index("<analyze>") :] + last
        analysis, _, rest = turn.removeprefix("<analyze>\nLet's analyze the Paragraph 1 step by step: ").partition("\n</analyze>\n")
        code, _, after = rest.partition("```python\n")[2].partition("```\n[Code Output]\n\n```\n5050\n```\n")
        ours = assistant_turn(
            1,
            [Segment(kind=SegmentKind.TEXT, text=analysis)],
            [
                Segment(kind=SegmentKind.CODE, text=code),
                Segment(kind=SegmentKind.TEXT, text="```\n"),
                Segment(kind=SegmentKind.OUTPUT, text="[Code Output]\n\n```\n5050\n```\n"),
                Segment(kind=SegmentKind.TEXT, text=after.partition("</verify>")[0]),
            ],
            right=True,
        )
        assert ours.content == turn


def test_recorded_rewards_of_a_whole_solution_name_its_first_wrong_step() -> None:
    printed = [row["outputs"][-1] for row in rows() if row["notebook_cell"] == 10]
    assert [json.loads(text) for text in printed] == [[1.0] * 6 + [0.0] * 2] * 2
    assert first_wrong_step(json.loads(printed[0])) == 6
