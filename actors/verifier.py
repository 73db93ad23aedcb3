"""GenPRM at inference: judges a solution step by step, with code, and votes (sections 3.1.1, 3.1.2; Eq. 3 to 7)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from actors.code_executor import CodeRunner
from actors.code_turns import CodeTurn, Ending, write_with_code
from actors.engine import Completion, Engine, Request, Sampling, Turn
from actors.engine.base import derive_seed
from actors.section import Section
from genprm import rationale
from genprm.records import BenchmarkSolution, JudgedSolution, Vote
from genprm.reward import first_wrong_step, mean_reward, verdict_reward

VerifierMode = Literal["both", "analysis", "code", "direct"]
VERDICT_MAX_TOKENS = 8
NUM_ALTERNATIVES = 10


class VerifierConfig(Section):
    """``mode`` and ``run_code`` are the rows of Table 5; limits hold per step and vote."""

    mode: VerifierMode = "both"
    run_code: bool = True
    num_votes: int = Field(default=1, ge=1)
    sampling: Sampling = Sampling(temperature=0.6, top_p=0.95, top_k=20, max_tokens=2048)
    max_code_rounds: int = Field(default=3, ge=1)


@dataclass
class _Strand:
    """One vote's own conversation: its history is its own earlier judgements, as in the paper."""

    index: int
    turns: list[Turn]
    session: str | None


class Verifier:
    """Judges solutions. The votes on a step run side by side, the steps of a solution in sequence."""

    def __init__(self, *, engine: Engine, runner: CodeRunner, config: VerifierConfig, run_seed: int) -> None:
        self._engine = engine
        self._runner = runner
        self._config = config
        self._run_seed = run_seed

    async def judge(self, solution: BenchmarkSolution, *, stop_at_first_error: bool) -> JudgedSolution:
        """Rewards of every step; with ``stop_at_first_error`` only as far as the predictions need.

        The mean and vote 0 are followed each to its own first wrong step, so ``first_vote_prediction`` is what judging
        with one sample would have said.
        """
        strands = [await self._strand(index) for index in range(self._config.num_votes)]
        votes_S: list[tuple[Vote, ...]] = []
        rewards_S: list[float | None] = []
        first_rewards_S: list[float | None] = []
        tokens = code_blocks = 0
        try:
            for index, user in enumerate(rationale.user_turns(solution.problem, solution.steps)):
                mean_open = not stop_at_first_error or _is_open(rewards_S)
                first_open = not stop_at_first_error or _is_open(first_rewards_S)
                if not mean_open and not first_open:
                    break
                active = strands if mean_open else strands[:1]
                results = await asyncio.gather(*(self._vote(solution.id, index, user, strand) for strand in active))
                tokens += sum(turn.num_tokens for _, turn in results)
                code_blocks += sum(turn.num_code_blocks for _, turn in results)
                if mean_open:
                    votes_S.append(tuple(vote for vote, _ in results))
                    rewards_S.append(mean_reward([vote.reward for vote, _ in results]))
                if first_open:
                    first_rewards_S.append(results[0][0].reward)
        finally:
            for strand in strands:
                if strand.session is not None:
                    await self._runner.close(strand.session)
        return JudgedSolution(
            id=solution.id,
            label=solution.label,
            votes_S=tuple(votes_S),
            rewards_S=tuple(rewards_S),
            prediction=first_wrong_step(rewards_S),
            first_vote_prediction=first_wrong_step(first_rewards_S),
            num_unreadable=sum(vote.reward is None for votes in votes_S for vote in votes),
            num_code_blocks=code_blocks,
            num_tokens=tokens,
        )

    async def _strand(self, index: int) -> _Strand:
        needs_code = self._config.run_code and self._config.mode in ("both", "code")
        session = await self._runner.open() if needs_code else None
        return _Strand(index=index, turns=[Turn(role="system", content=rationale.SYSTEM)], session=session)

    async def _vote(self, solution_id: str, step: int, user: str, strand: _Strand) -> tuple[Vote, CodeTurn]:
        """One judgement of one step; the strand's history grows by it."""
        strand.turns.append(Turn(role="user", content=user))
        turns = tuple(strand.turns)
        turn = CodeTurn()
        purpose = f"vote {strand.index}"
        if self._config.mode in ("both", "analysis"):
            turn.running += rationale.analyze_prefill(step + 1)
            seed = derive_seed(self._run_seed, solution_id, f"{purpose} analyze", step)
            await self._write(turn, turns, strand, rationale.ANALYZE_END, seed)
        if self._config.mode in ("both", "code"):
            turn.running += rationale.VERIFY_PREFILL
            seed = derive_seed(self._run_seed, solution_id, f"{purpose} verify", step)
            await self._write(turn, turns, strand, rationale.VERIFY_END, seed)
        turn.running += rationale.OUTPUT_PREFILL
        seed = derive_seed(self._run_seed, solution_id, f"{purpose} verdict", step)
        request = Request(
            turns=turns,
            prefix=turn.text,
            sampling=self._config.sampling.model_copy(update={"max_tokens": VERDICT_MAX_TOKENS}),
            seed=seed,
            stop=(rationale.OUTPUT_END,),
            num_logprobs=NUM_ALTERNATIVES,
        )
        completion = (await self._engine.generate(request))[0]
        turn.running += completion.text
        turn.num_tokens += completion.num_tokens
        vote = Vote(
            reward=reward_of(completion),
            verdict=rationale.read_verdict(rationale.OUTPUT_PREFILL + completion.text).value,
            text=turn.text,
        )
        strand.turns.append(Turn(role="assistant", content=_closed(turn.text)))
        return vote, turn

    async def _write(self, turn: CodeTurn, turns: tuple[Turn, ...], strand: _Strand, end: str, seed: int) -> None:
        """Write up to ``end``; whatever the ending, the turn is closed so that the next pre-fill fits."""
        sampling = self._config.sampling
        left = sampling.max_tokens - turn.num_tokens
        rounds = self._config.max_code_rounds - turn.num_code_blocks
        if left > 0 and rounds > 0:
            ending = await write_with_code(
                turn,
                engine=self._engine,
                runner=self._runner,
                session=strand.session,
                turns=turns,
                until=(end,),
                sampling=sampling.model_copy(update={"max_tokens": left}),
                seed=seed,
                max_code_rounds=rounds,
            )
            if ending is Ending.WANTED:
                turn.running += "\n"
                return
        turn.running += f"{'' if turn.text.endswith(chr(10)) else chr(10)}{end}\n"


def _closed(text: str) -> str:
    """A finished turn as training shows it: cut after, or completed to, the end of its judgement."""
    if text.endswith(rationale.OUTPUT_END):
        return text + "\n"
    return f"{text.rstrip()}\n{rationale.OUTPUT_END}\n"


def reward_of(verdict: Completion) -> float | None:
    """The reward at the first token of a verdict whose alternatives are Yes or No; None if there is none."""
    if rationale.read_verdict("\\boxed" + verdict.text) is rationale.Verdict.UNREADABLE:
        return None
    for alternatives in verdict.logprobs_T:
        likeliest = max(alternatives, key=lambda token: alternatives[token], default="")
        reward = verdict_reward(alternatives)
        if reward is not None and likeliest.strip().lstrip("{").strip().lower() in ("yes", "no"):
            return reward
    return None


def _is_open(rewards_S: Sequence[float | None]) -> bool:
    """Whether no step was judged wrong, or unreadable, yet."""
    return first_wrong_step(rewards_S) == -1
