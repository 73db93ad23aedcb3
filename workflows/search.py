"""What a verifier is for: best-of-N against majority voting and pass@N, and the critic (sections 3.1.2, 4.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeGuard

from actors.code_executor import ExecutorConfig
from actors.engine import EngineConfig, RequestRefused, open_engine
from actors.grading.grader import Grader, GradingConfig
from actors.policy import Policy, PolicyConfig, Sample
from actors.remote import Engines, Handles, Services
from actors.storage import Folder
from actors.verifier import Verifier
from genprm.rationale import read_analysis
from genprm.records import BenchmarkSolution, Candidate, JudgedSolution, Outcome, Problem, SearchResult
from genprm.reward import RIGHT_FROM, solution_score, winner
from genprm.section import Section
from workflows.config import Config
from workflows.models import trained_in
from workflows.sections import NamedVerifier, SearchConfig
from workflows.stage.parts import read_rejects, read_rows
from workflows.stage.row_stage import RowStage
from workflows.stage.run import Run
from workflows.stage.stage import Stage
from workflows.synthesis import problems


class SearchSettings(Section):
    seed: int
    policy_engine: EngineConfig
    policy: PolicyConfig
    verifier: NamedVerifier
    search: SearchConfig
    grading: GradingConfig
    executor: ExecutorConfig


class SearchWorker:
    """problem -> candidates with scores, choices, critic turns; each worker has a verifier of its own, where the work is"""

    def __init__(self, settings: SearchSettings, handles: Handles) -> None:
        self._config = settings.search
        self._grader = Grader(settings.grading)
        self._policy = Policy(
            engine=handles.engine("policy"),
            grader=self._grader,
            config=settings.policy,
            run_seed=settings.seed,
        )
        engine = open_engine(settings.verifier.engine)

        def verifier(num_votes: int, sure: float | None) -> Verifier:
            return Verifier(
                engine=engine,
                runner=handles.runner(),
                config=settings.verifier.model_copy(update={"num_votes": num_votes, "stop_when_sure": sure}),
                run_seed=settings.seed,
            )

        self._scorer = verifier(settings.search.num_votes, None)  # candidates are ranked by means, which need all votes
        self._critic = verifier(settings.search.critic_votes, settings.verifier.stop_when_sure)

    async def process(self, row: dict[str, Any]) -> Sequence[SearchResult]:
        problem = Problem.of(row)
        samples = await self._policy.sample(problem, n=self._config.num_candidates, purpose="search")
        scoring = asyncio.gather(*(self._score(problem, index, sample) for index, sample in enumerate(samples)))
        judged, critic = await asyncio.gather(scoring, self._critic_turns(problem, samples[0]))
        candidates = [
            Candidate(
                answer=sample.grade.answer,
                outcome=sample.grade.outcome,
                score=solution_score(judgement.rewards_S, self._config.aggregate) if _is_whole(judgement, sample) else None,
            )
            for sample, judgement in zip(samples, judged, strict=True)
        ]
        classes = await self._grader.classes([item.answer for item in candidates])
        scores = [item.score or 0.0 for item in candidates]  # one without a score has no weight
        outcomes, judged_steps, texts, critic_tokens = critic
        tokens = sum(sample.num_tokens for sample in samples) + sum(item.num_tokens for item in judged if item)
        return [
            SearchResult(
                id=problem.id,
                candidates=tuple(candidates),
                pass_at_1=sum(item.outcome is Outcome.CORRECT for item in candidates) / len(candidates),
                majority=is_right(candidates, classes, winner(classes)),
                weighted=is_right(candidates, classes, winner(classes, scores)),
                best_of_n=float(best(candidates).outcome is Outcome.CORRECT),
                pass_at_n=float(any(item.outcome is Outcome.CORRECT for item in candidates)),
                critic_outcomes=tuple(outcomes),
                critic_judged=tuple(judged_steps),
                critic_texts=tuple(texts),
                num_tokens=tokens + critic_tokens,
            )
        ]

    async def _score(self, problem: Problem, index: int, sample: Sample) -> JudgedSolution | None:
        if not sample.steps:
            return None
        solution = BenchmarkSolution(id=f"{problem.id}/c{index}", problem=problem.text, steps=sample.steps, label=-1)
        try:
            return await self._scorer.judge(solution, stop_at_first_error=False)
        except RequestRefused:  # too long for the verifier, say: a candidate without a score, not a problem less
            return None

    async def _critic_turns(self, problem: Problem, sample: Sample) -> tuple[list[Outcome], list[int | None], list[str], int]:
        """Judge, hand the first wrong step's analysis back, rewrite; unchanged where nothing is judged wrong."""
        outcomes, texts = [sample.grade.outcome], [sample.text]
        judged_steps: list[int | None] = []
        tokens = 0
        settled = False
        for turn in range(self._config.critic_turns):
            wrong: int | None = -1
            if not settled and sample.steps:
                solution = BenchmarkSolution(id=f"{problem.id}/t{turn}", problem=problem.text, steps=sample.steps, label=-1)
                try:
                    judgement = await self._critic.judge(solution, stop_at_first_error=True)
                    tokens += judgement.num_tokens
                    wrong = judgement.prediction
                    analysis = first_objection(judgement, wrong)
                    if wrong is not None and wrong >= 0 and analysis is not None:
                        sample = await self._policy.rewrite(problem, sample.text, paragraph=wrong + 1, analysis=analysis, index=turn)
                        tokens += sample.num_tokens
                    else:
                        settled = True
                except RequestRefused:  # nothing to hand back, or no room for it: the solution stays as it is
                    wrong, settled = None, True
            judged_steps.append(wrong)
            outcomes.append(sample.grade.outcome)
            texts.append(sample.text)
        return outcomes, judged_steps, texts, tokens


def _is_whole(judgement: JudgedSolution | None, sample: Sample) -> TypeGuard[JudgedSolution]:
    """Whether all steps are judged: a solution that is longer than the verifier's context has no score."""
    return judgement is not None and len(judgement.rewards_S) == len(sample.steps)


def first_objection(judgement: JudgedSolution, wrong: int | None) -> str | None:
    """The analysis of the first vote that judged step ``wrong`` wrong; None where there is none to hand back."""
    if wrong is None or wrong < 0:
        return None
    for vote in judgement.votes_S[wrong]:
        if vote.reward is not None and vote.reward < RIGHT_FROM:
            return read_analysis(vote.text)
    return None


def best(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate of the best score; ties and unscorable ones go to the earliest."""
    return max(candidates, key=lambda item: -1.0 if item.score is None else item.score)


def is_right(candidates: Sequence[Candidate], classes: Sequence[int | None], chosen: int | None) -> float:
    """1 if the answer of class ``chosen`` was graded correct, else 0."""
    members = [item for item, number in zip(candidates, classes, strict=True) if number == chosen]
    return float(chosen is not None and any(item.outcome is Outcome.CORRECT for item in members))


def verifiers(config: Config) -> list[str]:
    """The names of those that search."""
    return list(config.verifiers) if config.search.verifiers is None else list(config.search.verifiers)


def stages(config: Config, run: Folder) -> list[Stage]:
    """The problem sets' rows, and each verifier's search on each set."""
    found: list[Stage] = [
        problems(chosen, f"search_problems/{name}", f"search_problems.{name}") for name, chosen in config.search_problems.items()
    ]
    found += [search(config, verifier, name, run) for verifier in verifiers(config) for name in config.search_problems]
    return found


def search(config: Config, verifier: str, name: str, run: Folder) -> RowStage:
    """Best-of-N and critic on one problem set with one verifier."""
    chosen = config.verifiers[verifier]
    return RowStage(
        name=f"search/{verifier}/{name}",
        reads=(f"search_problems/{name}",),
        after=trained_in(run, chosen.engine),
        key="id",
        writes=SearchResult,
        settings=SearchSettings(
            seed=config.seed,
            policy_engine=config.engines.policy,
            policy=config.policy,
            verifier=chosen,
            search=config.search,
            grading=config.grading,
            executor=config.executor,
        ),
        make_worker=SearchWorker,
        pool=config.pools.search,
        limits=config.failures,
        engine=chosen.engine,
        services=Services(
            executors=config.executor,
            engines={"policy": Engines(config=config.engines.policy, number=config.pools.search.num_policy_engines)},
        ),
    )


def report_scores(config: Config, run: Run) -> dict[str, dict[str, dict[str, float]]]:
    """`scores` of every verifier and problem set, also to the tracking server."""
    table = {verifier: {name: scores(run.folder, verifier, name) for name in config.search_problems} for verifier in verifiers(config)}
    for verifier, sets in table.items():
        for name, values in sets.items():
            run.tracker.metrics({f"search/{verifier}/{name}/{path}": value for path, value in values.items()})
    return table


def scores(run: Folder, verifier: str, name: str) -> dict[str, float]:
    """Accuracies in percent over all problems; one that could not be searched counts as not solved."""
    stage = f"search/{verifier}/{name}"
    rows = read_rows(run, stage, [*SearchResult.CHOICES, "critic_outcomes"])
    if not rows:
        return {}
    number = len(rows) + len(read_rejects(run, stage))
    result = {choice: 100.0 * sum(row[choice] for row in rows) / number for choice in SearchResult.CHOICES}
    for turn in range(len(rows[0]["critic_outcomes"])):
        right = sum(row["critic_outcomes"][turn] == Outcome.CORRECT for row in rows)
        result[f"critic_turn_{turn}"] = 100.0 * right / number
    return result
