"""How many of a verifier's votes its decisions needed: the recorded votes of a finished run, counted again under `stop_when_sure`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from actors.storage import Folder
from genprm.errors import UserError
from genprm.records import JudgedSolution, SegmentKind, Vote
from genprm.reward import mean_is_right, sureness
from workflows.stage import parts
from workflows.stage.parts import read_rows

SURE = (1.0, 0.99, 0.95, 0.9)


@dataclass(frozen=True, kw_only=True)
class Thrift:
    """Per step on average: votes and tokens cast until the decision was sure; and how many decisions all votes would have changed."""

    votes: float
    tokens: float
    changed: int


def votes_benchmark(run: Folder, stage: str, at_a_time: int) -> dict[str, object]:
    """The steps of an evaluate stage on which all votes were cast. A vote's draw does not depend on how many others are cast,
    so with ``verifier.history = "first"`` these are the very votes that thrift would see. ValueError if the run has none.
    """
    if not parts.is_finished(run, stage):
        raise UserError(f"--run = {run.uri!r}, --stage = {stage!r}: no such finished stage is there; `make demo` makes one in runs/laptop")
    steps = [votes for row in read_rows(run, stage) for votes in JudgedSolution.of(row).votes_S]
    most = max((len(votes) for votes in steps), default=0)
    full = [votes for votes in steps if len(votes) == most]
    if most < 2:
        raise UserError(f"--run = {run.uri!r}: its verifier cast one vote a step, so that there is nothing to save; set verifier.num_votes")
    tokens = sum(_num_tokens(vote) for votes in full for vote in votes) / len(full)
    print(f"{len(full)} steps, {most} votes and {tokens:,.0f} tokens each; sure, votes, tokens, changed decisions:", flush=True)
    result: dict[str, object] = {"benchmark": "votes", "steps": len(full), "votes": most, "tokens": round(tokens)}
    for sure in SURE:
        thrift = replay(full, sure, at_a_time)
        print(f"{sure:5} {thrift.votes:5.2f} {thrift.tokens:7,.0f} {thrift.changed:5}", flush=True)
        result |= {f"votes_at_{sure}": round(thrift.votes, 2), f"changed_at_{sure}": thrift.changed}
    return result


def replay(steps: Sequence[Sequence[Vote]], sure: float, at_a_time: int) -> Thrift:
    """Cast the votes of each step in order, ``at_a_time``, until the decision is ``sure``."""
    cast = tokens = changed = 0
    for votes in steps:
        rewards = [vote.reward for vote in votes]
        number = 0
        while number < len(votes):
            number = min(number + at_a_time, len(votes))
            if sureness(rewards[:number], len(votes) - number) >= sure:
                break
        cast += number
        tokens += sum(_num_tokens(vote) for vote in votes[:number])
        changed += mean_is_right(rewards[:number]) != mean_is_right(rewards)
    return Thrift(votes=cast / len(steps), tokens=tokens / len(steps), changed=changed)


def _num_tokens(vote: Vote) -> int:
    """What was written for a vote, its pre-fills among it, but not the output of its code."""
    return sum(segment.num_tokens or 0 for segment in vote.segments if segment.kind is not SegmentKind.OUTPUT)
