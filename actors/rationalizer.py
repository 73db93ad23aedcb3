"""The rationale model: judges a whole solution in one turn, with code that is really run (section 3.2.3)."""

from __future__ import annotations

from pydantic import Field

from actors.code_executor import CodeRunner
from actors.code_turns import CodeTurn, Ending, write_with_code
from actors.engine import ContextOverflow, Engine, Request, Sampling, Turn
from actors.engine.base import derive_seed
from genprm import rationale
from genprm.consensus import majority_index
from genprm.records import Critique, CritiqueOutcome, Solution
from genprm.section import Section


class RationalizerConfig(Section):
    """What the model is asked and how far it may go; limits are per solution.

    ``instructions`` stand before problem and paragraphs, ``prefill`` begins its turn and ``think_end`` ends its thought: they are the
    model's own ways. At most ``num_index_votes`` short continuations name the final index: half of them where these agree.
    """

    instructions: str = rationale.RATIONALE_INSTRUCTIONS
    prefill: str = rationale.RATIONALE_PREFILL
    think_end: str = Field(default=rationale.THINK_END, min_length=1)
    sampling: Sampling = Sampling(temperature=0.6, top_p=0.95, top_k=40, max_tokens=8192)
    max_code_rounds: int = Field(default=32, ge=1)
    num_index_votes: int = Field(default=4, ge=1)
    index_max_tokens: int = Field(default=16, ge=1)


class Rationalizer:
    """Writes one critique a solution."""

    def __init__(self, *, engine: Engine, runner: CodeRunner, config: RationalizerConfig, run_seed: int) -> None:
        self._engine = engine
        self._runner = runner
        self._config = config
        self._run_seed = run_seed

    async def critique(self, solution: Solution) -> Critique:
        turn, outcome, votes = await self.judge(solution.id, solution.problem, solution.steps)
        judged = majority_index(votes)
        if outcome is CritiqueOutcome.READ and judged is None:
            outcome = CritiqueOutcome.NO_VERDICT
        return Critique(
            id=solution.id,
            problem_id=solution.problem_id,
            problem=solution.problem,
            level=solution.level,
            steps=solution.steps,
            segments=turn.counted(self._engine),
            outcome=outcome,
            index_votes_V=votes,
            judged_first_error=judged if outcome is CritiqueOutcome.READ else None,
            num_code_blocks=turn.num_code_blocks,
            num_tokens=turn.num_tokens,
        )

    async def judge(self, row_id: str, problem: str, steps: tuple[str, ...]) -> tuple[CodeTurn, CritiqueOutcome, tuple[int | None, ...]]:
        """The written turn, how it ended, and the votes on the first error (0-based, -1 none, None unreadable)."""
        turns = (Turn(role="user", content=rationale.rationale_prompt(problem, steps, self._config.instructions)),)
        turn = CodeTurn()
        turn.prefill(self._config.prefill)
        session = await self._runner.open()
        try:
            ending = await write_with_code(
                turn,
                engine=self._engine,
                runner=self._runner,
                session=session,
                turns=turns,
                until=(self._config.think_end,),
                sampling=self._config.sampling,
                seed=derive_seed(self._run_seed, row_id, "rationale"),
                max_code_rounds=self._config.max_code_rounds,
            )
        finally:
            await self._runner.close(session)
        if ending is Ending.OUT_OF_TOKENS:
            return turn, CritiqueOutcome.OUT_OF_TOKENS, ()
        if ending is Ending.OUT_OF_ROUNDS:
            return turn, CritiqueOutcome.OUT_OF_ROUNDS, ()
        turn.segments, turn.running = turn.finished_segments(), ""
        turn.prefill(rationale.FINAL_INDEX_BRIDGE)
        turn.segments, turn.running = turn.finished_segments(), ""
        try:
            votes = await self._votes(row_id, turns, turn, len(steps))
        except ContextOverflow:
            return turn, CritiqueOutcome.OUT_OF_TOKENS, ()
        return turn, CritiqueOutcome.READ, votes

    async def _votes(self, row_id: str, turns: tuple[Turn, ...], turn: CodeTurn, num_steps: int) -> tuple[int | None, ...]:
        """Short continuations that name the index: half of them, and the rest only where these differ: else it changes nothing."""
        seed = derive_seed(self._run_seed, row_id, "index")
        most = self._config.num_index_votes
        votes: tuple[int | None, ...] = ()
        while len(votes) < most and not (len(set(votes)) == 1 and None not in votes):
            completions = await self._engine.generate(
                Request(
                    turns=turns,
                    prefix=turn.text,
                    pieces=tuple(turn.pieces),
                    sampling=self._config.sampling.model_copy(update={"max_tokens": self._config.index_max_tokens}),
                    seed=seed + len(votes),
                    n=most - len(votes) if votes else -(-most // 2),
                    stop=(rationale.FINAL_INDEX_STOP,),
                )
            )
            turn.num_tokens += sum(completion.num_tokens for completion in completions)
            votes += tuple(rationale.read_final_index(completion.text, num_steps) for completion in completions)
        return votes
