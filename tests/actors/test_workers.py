"""Policy, estimator, rationalizer and verifier against scripted engines and the real executor and grader."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import pytest

from actors.engine import Completion, ContextOverflow, Finish, Request
from actors.engine.scripted_engine import ScriptedEngine
from actors.estimator import EngineCompleter, Estimator, Known, PaperEstimatorConfig, ThriftyEstimatorConfig
from actors.grading.grader import Grader, GradingConfig
from actors.policy import Policy, PolicyConfig, RolloutConfig
from actors.rationalizer import Rationalizer, RationalizerConfig
from genprm import rationale
from genprm.records import (
    Counts,
    Critique,
    CritiqueOutcome,
    EstimatedSolution,
    Outcome,
    Problem,
    SegmentKind,
    Solution,
)
from genprm.smoothing import Chain, Smoother, flat_prior
from tests.actors.scripts import say, solver, with_code

Answer = TypeVar("Answer")
PROBLEM = Problem(id="p", text="3 plus 4", answer="7", level=None)
PROMPTS = PolicyConfig(prompt="{problem}")


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    grader = Grader(GradingConfig())
    yield grader
    grader.close()


def solution(outcome: Outcome = Outcome.CORRECT, steps: tuple[str, ...] = ("3 + 4 = 7.", "so", "The answer is 7.")) -> Solution:
    return Solution(
        id="p/s0", problem_id="p", problem=PROBLEM.text, answer="7", level=None, steps=steps, final_answer="7", outcome=outcome,
        problem_counts=Counts(correct=1, incorrect=1),
    )  # fmt: skip


def test_policy_counts_every_path_and_keeps_distinct_ones_of_both_kinds(grader: Grader) -> None:
    policy = Policy(engine=ScriptedEngine(solver), grader=grader, config=PROMPTS, run_seed=0)
    config = RolloutConfig(first_round=8, next_rounds=4, growth=1, max_paths=16, keep_per_kind=2)
    rollouts = asyncio.run(policy.rollouts(PROBLEM, config))
    assert rollouts.counts == Counts(correct=8, incorrect=8)
    assert [(path.outcome, path.answer) for path in rollouts.paths] == [(Outcome.CORRECT, "7"), (Outcome.INCORRECT, "8")]
    assert rollouts.paths[0].steps == ("3 + 4 = 7.", r"The answer is $\boxed{7}$.")
    assert [path.num_tokens for path in rollouts.paths] == [11, 11]  # words, here
    assert rollouts.num_tokens == 16 * 11


def test_rounds_grow_so_that_a_problem_that_is_never_solved_needs_few() -> None:
    grown, constant = RolloutConfig(), RolloutConfig(first_round=32, next_rounds=16, growth=1)
    assert [grown.round_size(index) for index in range(8)] == [16, 32, 64, 128, 256, 512, 1024, 2048]
    assert sum(grown.round_size(index) for index in range(7)) < 2048  # the eighth takes the rest
    assert sum(constant.round_size(index) for index in range(127)) == 2048


def test_policy_stops_sampling_once_it_has_enough(grader: Grader) -> None:
    policy = Policy(engine=ScriptedEngine(solver), grader=grader, config=PROMPTS, run_seed=0)
    config = RolloutConfig(first_round=4, next_rounds=4, growth=1, max_paths=64, keep_per_kind=1)
    assert asyncio.run(policy.rollouts(PROBLEM, config)).counts.trials == 4


def test_a_problem_whose_missing_kind_costs_too_many_paths_is_given_up() -> None:
    paper = RolloutConfig(first_round=32, next_rounds=16, growth=1, keep_per_kind=4)
    thrifty = paper.model_copy(update={"max_paths_per_solution": 400})

    def paths(config: RolloutConfig, wrong_every: int | None) -> int:
        total = index = 0
        while n := config.next_round(index, total, total - (wrong := total // wrong_every if wrong_every else 0), wrong):
            total, index = total + n, index + 1
        return total

    assert [paths(paper, every) for every in (None, 8, 100, 1000)] == [2048, 32, 400, 2048]
    # After n right paths the next is wrong with probability 0.3 / (n + 0.6), and five solutions are kept then: 400 paths each at n = 600.
    assert [paths(thrifty, every) for every in (None, 8, 100, 1000)] == [608, 32, 400, 608]
    assert paths(thrifty.model_copy(update={"max_paths_per_solution": 50}), None) == 80, "50 at n = 75"
    assert thrifty.next_round(1, 32, 0, 0) == 16, "no valid path of either kind yet"


def test_truncated_and_one_step_paths_are_neither_kind(grader: Grader) -> None:
    def script(request: Request) -> list[Completion]:
        return [say(r" \boxed{7}"), say(" 3 + 4\nStep 2: \\boxed{7", Finish.LENGTH)] * (request.n // 2)

    policy = Policy(engine=ScriptedEngine(script), grader=grader, config=PROMPTS, run_seed=0)
    rollouts = asyncio.run(policy.rollouts(PROBLEM, RolloutConfig(first_round=4, max_paths=4)))
    assert rollouts.paths == ()
    assert rollouts.counts == Counts(truncated=2)
    assert rollouts.num_one_step == 2


def test_steps_that_were_left_out_or_merged_for_their_form_are_counted(grader: Grader) -> None:
    """The prefix is ``Step 1:``; one path repeats it, one has an empty step 2 and skips step 4, two are as they should be."""
    texts = ["Step 1: a\nStep 2: \\boxed{7}", "b\nStep 2:\nStep 3: c\nStep 5: \\boxed{7}", "a\nStep 2: \\boxed{8}"]

    def script(request: Request) -> list[Completion]:
        return [say(f" {text}") for text in [*texts, texts[-1]][: request.n]]

    policy = Policy(engine=ScriptedEngine(script), grader=grader, config=PROMPTS, run_seed=0)
    rollouts = asyncio.run(policy.rollouts(PROBLEM, RolloutConfig(first_round=4, max_paths=4)))
    assert (rollouts.num_empty_steps, rollouts.num_merged_steps, rollouts.num_one_step) == (1, 2, 0)
    assert {path.steps for path in rollouts.paths} == {("a", "\\boxed{7}"), ("b", "c\nStep 5: \\boxed{7}"), ("a", "\\boxed{8}")}


def estimator_of(
    script: Callable[[Request], list[Completion]],
    grader: Grader,
    config: PaperEstimatorConfig | ThriftyEstimatorConfig,
) -> Estimator:
    engine = ScriptedEngine(script)
    completer = EngineCompleter(engine=engine, grader=grader, prompt=PROMPTS.prompt, sampling=config.sampling, run_seed=0)
    return Estimator(completer=completer, config=config)


def test_estimator_asks_for_k_completions_from_every_state_but_the_last(grader: Grader) -> None:
    asked: list[tuple[str, int]] = []

    def script(request: Request) -> list[Completion]:
        asked.append((request.prefix, request.n))
        return [say(rf" so \boxed{{{7 if index < request.n // 2 else 8}}}") for index in range(request.n)]

    config = PaperEstimatorConfig(start=4, hard=8, middle=6, easy=2)
    estimator = estimator_of(script, grader, config)
    estimate = asyncio.run(estimator.estimate(solution()))
    assert asked == [("Step 1:", 4), ("Step 1: 3 + 4 = 7.\nStep 2:", 6), ("Step 1: 3 + 4 = 7.\nStep 2: so\nStep 3:", 6)]
    assert estimate.start_counts == Counts(correct=2, incorrect=2)
    assert estimate.step_counts_S == (Counts(correct=3, incorrect=3), Counts(correct=3, incorrect=3), Counts(correct=1))
    assert estimate.num_completions == 16


def test_estimator_samples_nothing_after_a_zero_and_shares_the_start(grader: Grader) -> None:
    prefixes: list[str] = []

    def script(request: Request) -> list[Completion]:
        prefixes.append(request.prefix)
        value = 7 if request.prefix == "Step 1:" else 9
        return [say(rf" \boxed{{{value}}}")] * request.n

    config = PaperEstimatorConfig(start=2, hard=2, middle=2, easy=2)
    estimator = estimator_of(script, grader, config)

    async def both() -> tuple[Counts, ...]:
        first, second = await asyncio.gather(estimator.estimate(solution()), estimator.estimate(solution(Outcome.INCORRECT)))
        assert first.start_counts == second.start_counts
        return first.step_counts_S

    assert asyncio.run(both()) == (Counts(incorrect=2), Counts(), Counts(correct=1))
    assert prefixes.count("Step 1:") == 1
    assert len(prefixes) == 3


def half_right(request: Request) -> list[Completion]:
    """Half of the completions are right up to step 1, none after it."""
    right = request.n // 2 if request.prefix.count("Step") <= 2 else 0
    return [say(rf" so \boxed{{{7 if index < right else 8}}}") for index in range(request.n)]


def test_the_thrifty_estimator_looks_everywhere_and_then_where_the_doubt_is(grader: Grader) -> None:
    asked: list[tuple[int, int]] = []

    def script(request: Request) -> list[Completion]:
        asked.append((request.prefix.count("Step") - 1, request.n))
        return half_right(request)

    config = ThriftyEstimatorConfig(start=16, first=4, batch=4, most=16, sureness=0.95)
    estimator = estimator_of(script, grader, config)
    wrong = solution(Outcome.INCORRECT, ("a", "b", "c", "d"))
    estimate = asyncio.run(estimator.estimate(wrong))
    assert asked[0] == (0, 16)
    assert sorted(asked[1:4]) == [(1, 4), (2, 4), (3, 4)]
    assert set(asked[4:]) <= {(1, 4), (2, 4)}  # what comes after a zero tells nothing
    spent = sum(counts.trials for counts in estimate.step_counts_S[:-1])
    assert 12 < spent <= 48
    assert estimate.num_completions == 16 + spent
    posterior = Smoother(flat_prior(), 0.8).judge(Chain.of(estimate))
    assert (posterior.best, posterior.sureness >= 0.95 or spent > 44) == (1, True)


@pytest.mark.parametrize("config", [PaperEstimatorConfig(start=8, hard=16, middle=16, easy=16), ThriftyEstimatorConfig(start=8, first=8)])
def test_an_earlier_run_is_topped_up(grader: Grader, config: PaperEstimatorConfig | ThriftyEstimatorConfig) -> None:
    asked: list[int] = []

    def script(request: Request) -> list[Completion]:
        asked.append(request.n)
        return half_right(request)

    small = PaperEstimatorConfig(start=4, hard=4, middle=4, easy=4)
    before = asyncio.run(estimator_of(half_right, grader, small).estimate(solution()))
    known = Known(start=before.start_counts, steps_S=before.step_counts_S)
    after = asyncio.run(estimator_of(script, grader, config).estimate(solution(), known))
    assert asked[0] == 4  # 8 of the bare problem less the 4 that are there
    assert after.num_completions == sum(asked)
    trials = [sum(counts.trials for counts in (one.start_counts, *one.step_counts_S)) for one in (before, after)]
    assert trials[1] - trials[0] == sum(asked)


def test_the_first_solution_of_a_problem_bears_the_cost_of_its_start(grader: Grader) -> None:
    config = PaperEstimatorConfig(start=8, hard=2, middle=2, easy=2)
    first = solution()
    second = replace(first, id="p/s1")
    for order in ([first, second], [second, first]):
        estimator = estimator_of(half_right, grader, config)

        async def all_of(order: list[Solution], estimator: Estimator) -> list[EstimatedSolution]:
            return [await estimator.estimate(one) for one in order]

        costs = {one.id: one.num_completions for one in asyncio.run(all_of(order, estimator))}
        assert costs == {"p/s0": 12, "p/s1": 4}


def critic_script(request: Request) -> list[Completion]:
    """Judges paragraph 1 with code, reads its output, and names the paragraph that the output refutes."""
    text = request.prefix
    if text.endswith("\\boxed"):
        index = 1 if "False" in text else -1
        return [say(f"{{{index}}}")] * request.n
    if text.endswith("<analyze>\n"):
        return [say("sum\n</analyze>\n<verify>\n```python\nprint(3 + 4 == 8)\n```\n")]
    return [say("done\n</verify>\n</think>")]


def critique_of(script: Callable[[Request], list[Completion]], config: RationalizerConfig) -> Critique:
    engine = ScriptedEngine(script)
    return with_code(
        lambda code: Rationalizer(engine=engine, runner=code, config=config, run_seed=0).critique(
            solution(steps=("3 + 4 = 8.", "The answer is 8."))
        )
    )


def test_rationalizer_runs_the_code_and_reads_the_index() -> None:
    critique = critique_of(critic_script, RationalizerConfig())
    assert critique.outcome is CritiqueOutcome.READ
    assert critique.index_votes_V == (0, 0)  # the other two could not change it
    assert critique.judged_first_error == 0
    assert [segment.text for segment in critique.segments if segment.kind is SegmentKind.OUTPUT] == ["[Code Output]\n\n```\nFalse\n```\n"]
    assert [segment.text for segment in critique.segments if segment.kind is SegmentKind.CODE] == ["print(3 + 4 == 8)\n"]
    assert "".join(segment.text for segment in critique.segments).startswith(rationale.RATIONALE_PREFILL)


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (lambda request: [say("words", Finish.LENGTH, 9999)] * request.n, CritiqueOutcome.OUT_OF_TOKENS),
        (lambda request: [say("```python\n1\n```\n")] * request.n, CritiqueOutcome.OUT_OF_ROUNDS),
        (lambda request: [say("no idea </think>")] * request.n, CritiqueOutcome.NO_VERDICT),
    ],
)
def test_a_rationale_without_a_verdict_says_why(script: Callable[[Request], list[Completion]], outcome: CritiqueOutcome) -> None:
    critique = critique_of(script, RationalizerConfig(max_code_rounds=2))
    assert (critique.outcome, critique.judged_first_error) == (outcome, None)


def test_more_continuations_are_asked_for_where_the_first_differ() -> None:
    """Each is decided by its seed, so that the votes are those of all four asked for at once."""

    def script(request: Request) -> list[Completion]:
        if not request.prefix.endswith("boxed"):
            return critic_script(request)
        asked.append((request.seed, request.n))
        return [say("{1}" if (request.seed + index - asked[0][0]) % 3 else "{-1}") for index in range(request.n)]

    asked: list[tuple[int, int]] = []
    critique = critique_of(script, RationalizerConfig())
    assert critique.index_votes_V == (-1, 0, 0, -1)
    assert critique.judged_first_error == -1  # of two against two the earlier one counts
    assert asked == [(asked[0][0], 2), (asked[0][0] + 2, 2)]
    asked.clear()
    assert critique_of(script, RationalizerConfig(num_index_votes=1)).index_votes_V == (-1,)


def test_where_the_context_ends_a_critique_is_out_of_tokens_and_completions_are_truncated(grader: Grader) -> None:
    def overflows(request: Request) -> list[Completion]:
        if "[Code Output]" in request.prefix or request.prefix.count("Step") > 2:
            raise ContextOverflow("no room")
        return half_right(request) if request.prefix.startswith("Step") else critic_script(request)

    critique = critique_of(overflows, RationalizerConfig())
    assert (critique.outcome, critique.judged_first_error, critique.num_code_blocks) == (CritiqueOutcome.OUT_OF_TOKENS, None, 1)
    config = PaperEstimatorConfig(start=4, hard=4, middle=4, easy=4)
    estimate = asyncio.run(estimator_of(overflows, grader, config).estimate(solution()))
    assert estimate.step_counts_S == (Counts(correct=2, incorrect=2), Counts(truncated=4), Counts(correct=1))
