"""GenPRM at inference: judges a solution step by step, with code, and votes (sections 3.1.1, 3.1.2; Eq. 3 to 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import Field, model_validator

from actors.code_executor import CodeResult, CodeRunner, CodeStatus
from actors.code_turns import CodeTurn, Ending, write_with_code
from actors.engine import Completion, ContextOverflow, Engine, Piece, Request, Sampling, Turn
from actors.engine.base import derive_seed
from actors.together import together
from genprm import rationale
from genprm.records import BenchmarkSolution, JudgedSolution, SegmentKind, Vote
from genprm.reward import first_wrong_step, mean_reward, sureness, verdict_reward, verdict_word
from genprm.section import Section

VerifierMode = Literal["both", "analysis", "code", "direct"]
VERDICT_MAX_TOKENS = 8
NUM_ALTERNATIVES = 10


class VerifierConfig(Section):
    """``mode`` and ``run_code`` are the rows of Table 5; limits hold per step and vote.

    ``history`` is what a vote sees of the steps before: its own judgements of them, as in the paper, or the first vote's, which
    all votes of a step then share (and the engine's prefix cache with them).

    With ``stop_when_sure`` a step's votes are cast ``votes_at_a_time``, and no more are once the decision is that sure: 1.0 means
    that the votes left can't change it, less that they do with at most the rest of that probability (`genprm.reward.sureness`). The
    decisions are then those of all votes; a reward is the mean of the votes cast.
    """

    mode: VerifierMode = "both"
    run_code: bool = True
    num_votes: int = Field(default=1, ge=1)
    history: Literal["own", "first"] = "own"
    stop_when_sure: float | None = Field(default=None, gt=0.5, le=1)
    votes_at_a_time: int = Field(default=2, ge=1)
    sampling: Sampling = Sampling(temperature=0.6, top_p=0.95, top_k=20, max_tokens=2048)
    max_code_rounds: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _votes_have_a_history(self) -> VerifierConfig:
        if self.stop_when_sure is not None and self.history == "own":
            raise ValueError(
                "stop_when_sure = "
                f"{self.stop_when_sure}: a vote that was not cast has no judgement of its own to continue from; set history = 'first', too"
            )
        return self


@dataclass
class _Strand:
    """One vote's conversation: ``turns`` are the steps before and their judgements, ``blocks`` the code that was run for them.

    ``session`` lives as long as the history is the vote's own; for another's history another session is opened for every step.
    """

    index: int
    turns: list[Turn]
    blocks: list[str] = field(default_factory=list)
    session: str | None = None


class Verifier:
    """Judges solutions. The votes on a step run side by side, the steps of a solution in sequence.

    What vote i sees of the earlier steps is its own judgements of them (``history = "own"``) or vote 0's (``"first"``). Its
    randomness depends on (run seed, solution id, vote, step) only.
    """

    def __init__(self, *, engine: Engine, runner: CodeRunner, config: VerifierConfig, run_seed: int) -> None:
        self._engine = engine
        self._runner = runner
        self._config = config
        self._run_seed = run_seed
        self._runs_code = config.run_code and config.mode in ("both", "code")

    async def judge(self, solution: BenchmarkSolution, *, stop_at_first_error: bool) -> JudgedSolution:
        """Rewards of every step; with ``stop_at_first_error`` only as far as the predictions need.

        The mean and vote 0 are followed each to its own first wrong step, so ``first_vote_prediction`` is what judging
        with one sample would have said. Where the context ends before the steps do, the judgements so far are given.
        """
        strands = [_Strand(index=index, turns=[Turn(role="system", content=rationale.SYSTEM)]) for index in range(self._config.num_votes)]
        votes_S: list[tuple[Vote, ...]] = []
        rewards_S: list[float | None] = []
        first_rewards_S: list[float | None] = []
        tokens = code_blocks = 0
        overflows = False
        try:
            for step, user in enumerate(rationale.user_turns(solution.problem, solution.steps)):
                mean_open = not stop_at_first_error or _is_open(rewards_S)
                first_open = not stop_at_first_error or _is_open(first_rewards_S)
                if not mean_open and not first_open:
                    break
                for strand in strands:
                    strand.turns.append(Turn(role="user", content=user))
                try:
                    results = await self._votes(solution.id, step, strands if mean_open else strands[:1])
                except ContextOverflow:  # what is judged so far stays
                    overflows = True
                    break
                tokens += sum(turn.num_tokens for _, turn in results)
                code_blocks += sum(turn.num_code_blocks for _, turn in results)
                if mean_open:
                    votes_S.append(tuple(vote for vote, _ in results))
                    rewards_S.append(mean_reward([vote.reward for vote, _ in results]))
                if first_open:
                    first_rewards_S.append(results[0][0].reward)
                self._go_on(strands, results)
        finally:
            for strand in strands:
                if strand.session is not None:
                    await self._runner.close(strand.session)
        return JudgedSolution(
            id=solution.id,
            label=solution.label,
            votes_S=tuple(votes_S),
            rewards_S=tuple(rewards_S),
            prediction=_prediction(rewards_S, overflows),
            first_vote_prediction=_prediction(first_rewards_S, overflows),
            num_unreadable=sum(vote.reward is None for votes in votes_S for vote in votes),
            num_code_blocks=code_blocks,
            num_tokens=tokens,
        )

    async def _votes(self, solution_id: str, step: int, strands: list[_Strand]) -> list[tuple[Vote, CodeTurn]]:
        """The votes on a step: all side by side, or, with thrift, as many as the decision needs."""
        sure = self._config.stop_when_sure
        size = len(strands) if sure is None else self._config.votes_at_a_time
        results: list[tuple[Vote, CodeTurn]] = []
        while len(results) < len(strands):
            group = strands[len(results) : len(results) + size]
            results += await together(*(self._vote(solution_id, step, strand) for strand in group))
            rewards = [vote.reward for vote, _ in results]
            if sure is not None and sureness(rewards, len(strands) - len(results)) >= sure:
                break
        return results

    def _go_on(self, strands: Sequence[_Strand], results: Sequence[tuple[Vote, CodeTurn]]) -> None:
        """Put the judgements of a step into the histories."""
        own = self._config.history == "own"
        for strand, (_, turn) in zip(strands, results if own else [results[0]] * len(strands), strict=False):
            strand.turns.append(_closed(turn))
            strand.blocks += [segment.text for segment in turn.segments if segment.kind is SegmentKind.CODE]

    async def _vote(self, solution_id: str, step: int, strand: _Strand) -> tuple[Vote, CodeTurn]:
        """One judgement of one step."""
        if not self._runs_code:
            return await self._write_vote(solution_id, step, strand, self._runner, None)
        if self._config.history == "own" or strand.index == 0:
            strand.session = strand.session or await self._runner.open()
            return await self._write_vote(solution_id, step, strand, self._runner, strand.session)
        runner = _Replaying(self._runner, strand.blocks)
        session = await runner.open()
        try:
            return await self._write_vote(solution_id, step, strand, runner, session)
        finally:
            await runner.close(session)

    async def _write_vote(
        self, solution_id: str, step: int, strand: _Strand, runner: CodeRunner, session: str | None
    ) -> tuple[Vote, CodeTurn]:
        turns = tuple(strand.turns)
        turn = CodeTurn()
        purpose = f"vote {strand.index}"
        if self._config.mode in ("both", "analysis"):
            turn.prefill(rationale.analyze_prefill(step + 1))
            seed = derive_seed(self._run_seed, solution_id, f"{purpose} analyze", step)
            await self._write(turn, turns, runner, session, rationale.ANALYZE_END, seed)
        if self._config.mode in ("both", "code"):
            turn.prefill(rationale.VERIFY_PREFILL)
            seed = derive_seed(self._run_seed, solution_id, f"{purpose} verify", step)
            await self._write(turn, turns, runner, session, rationale.VERIFY_END, seed)
        turn.prefill(rationale.OUTPUT_PREFILL)
        seed = derive_seed(self._run_seed, solution_id, f"{purpose} verdict", step)
        request = Request(
            turns=turns,
            prefix=turn.text,
            pieces=tuple(turn.pieces),
            wants_ids=True,
            sampling=self._config.sampling.model_copy(update={"max_tokens": VERDICT_MAX_TOKENS}),
            seed=seed,
            stop=(rationale.OUTPUT_END,),
            num_logprobs=NUM_ALTERNATIVES,
        )
        completion = (await self._engine.generate(request))[0]
        turn.write(completion)
        vote = Vote(
            reward=reward_of(completion),
            verdict=rationale.read_verdict(rationale.OUTPUT_PREFILL + completion.text).value,
            segments=turn.counted(self._engine),
        )
        return vote, turn

    async def _write(self, turn: CodeTurn, turns: tuple[Turn, ...], runner: CodeRunner, session: str | None, end: str, seed: int) -> None:
        """Write up to ``end``; whatever the ending, the turn is closed so that the next pre-fill fits."""
        sampling = self._config.sampling
        left = sampling.max_tokens - turn.num_tokens
        rounds = self._config.max_code_rounds - turn.num_code_blocks
        if left > 0 and rounds > 0:
            ending = await write_with_code(
                turn,
                engine=self._engine,
                runner=runner,
                session=session,
                turns=turns,
                until=(end,),
                sampling=sampling.model_copy(update={"max_tokens": left}),
                seed=seed,
                max_code_rounds=rounds,
            )
            if ending is Ending.WANTED:
                turn.prefill("\n")
                return
        turn.prefill(f"{'' if turn.text.endswith(chr(10)) else chr(10)}{end}\n")


class _Replaying:
    """A runner whose sessions begin as another's stood: the first block is run after the other's ``blocks``."""

    def __init__(self, runner: CodeRunner, blocks: Sequence[str]) -> None:
        self._runner = runner
        self._blocks = list(blocks)

    async def open(self) -> str:
        return await self._runner.open()

    async def run(self, session: str, code: str) -> CodeResult:
        while self._blocks:
            result = await self._runner.run(session, self._blocks.pop(0))
            if result.status is CodeStatus.REFUSED:
                return result
        return await self._runner.run(session, code)

    async def close(self, session: str) -> None:
        await self._runner.close(session)


def _closed(turn: CodeTurn) -> Turn:
    """A finished turn as training shows it: cut after, or completed to, the end of its judgement."""
    pieces = list(turn.pieces)
    if turn.text.endswith(rationale.OUTPUT_END):
        end = "\n"
    else:
        end = f"\n{rationale.OUTPUT_END}\n"
        last = pieces.pop()  # the verdict, or the pre-fill before an empty one
        stripped = last.text.rstrip()
        if stripped:
            pieces.append(last if stripped == last.text else replace(last, text=stripped, ids=None))
    pieces.append(Piece(text=end))
    return Turn(role="assistant", content="".join(piece.text for piece in pieces), pieces=tuple(pieces))


def reward_of(verdict: Completion) -> float | None:
    """The reward at the first token of a verdict whose alternatives are Yes or No; None if there is none."""
    if rationale.read_verdict("\\boxed" + verdict.text) is rationale.Verdict.UNREADABLE:
        return None
    for alternatives in verdict.logprobs_T:
        likeliest = max(alternatives, key=lambda token: alternatives[token], default="")
        if verdict_word(likeliest) is not None:
            return verdict_reward(alternatives)
    return None


def _prediction(rewards_S: Sequence[float | None], overflows: bool) -> int | None:
    """The first wrong step; None where none is wrong of those judged, and the rest had no room in the context."""
    wrong = first_wrong_step(rewards_S)
    return None if overflows and wrong == -1 else wrong


def _is_open(rewards_S: Sequence[float | None]) -> bool:
    """Whether no step was judged wrong, or unreadable, yet."""
    return first_wrong_step(rewards_S) == -1
