"""The rows that cross a boundary, each with its Arrow schema.

Every record is frozen and keyword-only. ``record.row()`` gives the plain dict that Arrow stores, ``Record.of(row)`` the
record again; ``Record.schema()`` is declared beside the fields and never inferred from data. Ids are structured: a solution
of problem ``p`` is ``p/s3``, so the same id stands in rows, logs and errors.

Dimension legend for nested lists: S steps, V votes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, ClassVar, Self, TypeVar

import pyarrow as pa


class Outcome(enum.StrEnum):
    """What became of a completion. Only CORRECT and INCORRECT are judgements; the others are failures to judge."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    TRUNCATED = "truncated"
    UNPARSABLE = "unparsable"
    TIMED_OUT = "timed_out"


class SegmentKind(enum.StrEnum):
    TEXT = "text"
    CODE = "code"
    OUTPUT = "output"


class CritiqueOutcome(enum.StrEnum):
    """How a rationale ended; only READ has a verdict."""

    READ = "read"
    NO_VERDICT = "no_verdict"
    OUT_OF_TOKENS = "out_of_tokens"
    OUT_OF_ROUNDS = "out_of_rounds"


def _list(item: pa.DataType) -> pa.DataType:
    return pa.list_(item)


_COUNTS_TYPE = pa.struct([(name, pa.int64()) for name in ("correct", "incorrect", "truncated", "unparsable", "timed_out")])
_SEGMENT_TYPE = pa.struct([("kind", pa.string()), ("text", pa.string()), ("num_tokens", pa.int64())])
_SPAN_TYPE = pa.struct([("start", pa.int64()), ("end", pa.int64())])
_MESSAGE_TYPE = pa.struct([("role", pa.string()), ("content", pa.string()), ("loss_spans", _list(_SPAN_TYPE))])


Fields = Sequence[tuple[str, pa.DataType]]


class Record:
    """Base of the rows: conversion to and from plain dicts, driven by the declared fields."""

    FIELDS: ClassVar[Fields]

    @classmethod
    def schema(cls) -> pa.Schema:
        return pa.schema([pa.field(name, dtype) for name, dtype in cls.FIELDS])

    def row(self) -> dict[str, Any]:
        """The record as plain values: enums as their text, tuples as lists, nested records as dicts."""
        return _plain_fields(self)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The record of an Arrow row; KeyError where a declared column is missing."""
        return cls(**{name: row[name] for name, _ in cls.FIELDS})


_PLAIN_TYPES = {str, int, float, bool, type(None)}


def _plain_fields(record: Any) -> dict[str, Any]:
    """The fields of a dataclass; `dataclasses.asdict`, which copies every value, takes several times as long."""
    return {name: _plain(value) for name, value in vars(record).items()}


def _plain(value: Any) -> Any:
    if type(value) in _PLAIN_TYPES:
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    return _plain_fields(value) if is_dataclass(value) else value


T = TypeVar("T")


def _tuple(of: type[T], items: Sequence[Any]) -> tuple[T, ...]:
    return tuple(item if isinstance(item, of) else of(**item) for item in items)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A piece of a critique: words, code, or the output that the executor appended. Concatenated, they are the turn.

    ``num_tokens`` are those of its text by itself; None where they were not counted.
    """

    kind: SegmentKind
    text: str
    num_tokens: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", SegmentKind(self.kind))


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many completions ended how; ``Counts(correct=3, incorrect=5)`` is 3 successes in 8 trials."""

    correct: int = 0
    incorrect: int = 0
    truncated: int = 0
    unparsable: int = 0
    timed_out: int = 0

    @classmethod
    def of_outcomes(cls, outcomes: Sequence[Outcome]) -> Counts:
        return cls(**{outcome.value: outcomes.count(outcome) for outcome in Outcome})

    @property
    def trials(self) -> int:
        return self.correct + self.incorrect + self.truncated + self.unparsable + self.timed_out

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: value + getattr(other, name) for name, value in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class Span:
    """Half-open character range ``[start, end)`` of a message's content."""

    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn; only the characters inside ``loss_spans`` carry loss in training. Each span, and what lies between two, is made into
    tokens by itself."""

    role: str
    content: str
    loss_spans: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss_spans", _tuple(Span, self.loss_spans))


@dataclass(frozen=True, kw_only=True)
class Problem(Record):
    """A problem to solve. ``answer`` is the reference q*; ``level`` is the source's own difficulty, None if it has none."""

    id: str
    text: str
    answer: str
    level: str | None

    FIELDS: ClassVar[Fields] = (("id", pa.string()), ("text", pa.string()), ("answer", pa.string()), ("level", pa.string()))


@dataclass(frozen=True, kw_only=True)
class Path:
    """One kept rollout of a problem: its steps, the answer it reached, whether that is right, and its length in tokens."""

    steps: tuple[str, ...]
    answer: str | None
    outcome: Outcome
    num_tokens: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        object.__setattr__(self, "outcome", Outcome(self.outcome))


_PATH_TYPE = pa.struct([("steps", _list(pa.string())), ("answer", pa.string()), ("outcome", pa.string()), ("num_tokens", pa.int64())])


@dataclass(frozen=True, kw_only=True)
class Rollouts(Record):
    """All that the policy made of one problem: counts over every path sampled, and the distinct paths worth keeping.

    Over every path sampled: ``num_one_step`` are right or wrong but of one step, which are not counted; ``num_empty_steps`` markers had
    no text and ``num_merged_steps`` repeated a number or did not count on, so that their text belongs to the step before
    (`genprm.steps.StepSplit`); ``num_tokens`` are their tokens; what the kept ones have stands with them.
    """

    problem_id: str
    problem: str
    answer: str
    level: str | None
    counts: Counts
    num_one_step: int
    num_empty_steps: int
    num_merged_steps: int
    paths: tuple[Path, ...]
    num_tokens: int

    FIELDS: ClassVar[Fields] = (
        ("problem_id", pa.string()),
        ("problem", pa.string()),
        ("answer", pa.string()),
        ("level", pa.string()),
        ("counts", _COUNTS_TYPE),
        ("num_one_step", pa.int64()),
        ("num_empty_steps", pa.int64()),
        ("num_merged_steps", pa.int64()),
        ("paths", _list(_PATH_TYPE)),
        ("num_tokens", pa.int64()),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", self.counts if isinstance(self.counts, Counts) else Counts(**self.counts))
        object.__setattr__(self, "paths", _tuple(Path, self.paths))


_SOLUTION_FIELDS: Fields = (
    ("id", pa.string()),
    ("problem_id", pa.string()),
    ("problem", pa.string()),
    ("answer", pa.string()),
    ("level", pa.string()),
    ("steps", _list(pa.string())),
    ("final_answer", pa.string()),
    ("outcome", pa.string()),
    ("problem_counts", _COUNTS_TYPE),
    ("given_labels_S", _list(pa.int64())),
)


@dataclass(frozen=True, kw_only=True)
class Solution(Record):
    """A solution: its steps (without markers), its own final answer, and the success counts of its problem.

    Solutions from files may lack some of it: ``answer`` is the problem's reference answer, without which there is no ``outcome`` and
    nothing to estimate; ``problem_counts`` are None where the problem was not sampled. ``given_labels_S`` are labels that came with
    the solution (1 a good step, 0 a bad one), None where there are none; after the first bad step they are 0 where the source says nothing.
    """

    id: str
    problem_id: str
    problem: str
    answer: str | None
    level: str | None
    steps: tuple[str, ...]
    final_answer: str | None
    outcome: Outcome | None
    problem_counts: Counts | None
    given_labels_S: tuple[int, ...] | None = None

    FIELDS: ClassVar[Fields] = _SOLUTION_FIELDS

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        object.__setattr__(self, "outcome", None if self.outcome is None else Outcome(self.outcome))
        counts = self.problem_counts
        object.__setattr__(self, "problem_counts", counts if counts is None or isinstance(counts, Counts) else Counts(**counts))
        if self.given_labels_S is not None:
            object.__setattr__(self, "given_labels_S", tuple(self.given_labels_S))
            if len(self.given_labels_S) != len(self.steps):
                raise ValueError(f"{self.id}: {len(self.given_labels_S)} given labels for {len(self.steps)} steps")


@dataclass(frozen=True, kw_only=True)
class GivenSolution(Solution):
    """A solution as it was read from a file; its counts of steps are as in `Rollouts`, over this solution."""

    num_empty_steps: int
    num_merged_steps: int

    FIELDS: ClassVar[Fields] = (*_SOLUTION_FIELDS, ("num_empty_steps", pa.int64()), ("num_merged_steps", pa.int64()))


@dataclass(frozen=True, kw_only=True)
class EstimatedSolution(Solution):
    """A solution with its Monte Carlo counts.

    ``start_counts`` are the counts at the bare problem, MC(s_1). ``step_counts_S[t]`` are those after step t; after the
    last step nothing is sampled (one trial: the solution's own answer), and after a zero the paper's estimator samples nothing.
    ``num_completions`` and ``num_tokens`` are what this run sampled, ``tokens_T`` its tokens at the bare problem and after each step
    but the last.
    """

    start_counts: Counts
    step_counts_S: tuple[Counts, ...]
    num_completions: int
    num_tokens: int
    tokens_T: tuple[int, ...]

    FIELDS: ClassVar[Fields] = (
        *_SOLUTION_FIELDS,
        ("start_counts", _COUNTS_TYPE),
        ("step_counts_S", _list(_COUNTS_TYPE)),
        ("num_completions", pa.int64()),
        ("num_tokens", pa.int64()),
        ("tokens_T", _list(pa.int64())),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "tokens_T", tuple(self.tokens_T))
        start = self.start_counts
        object.__setattr__(self, "start_counts", start if isinstance(start, Counts) else Counts(**start))
        object.__setattr__(self, "step_counts_S", _tuple(Counts, self.step_counts_S))
        if len(self.step_counts_S) != len(self.steps):
            raise ValueError(f"{self.id}: {len(self.step_counts_S)} step counts for {len(self.steps)} steps")


_LABEL_FIELDS = (
    *_SOLUTION_FIELDS,
    ("values_S", _list(pa.float64())),
    ("progress_S", _list(pa.float64())),
    ("labels_S", _list(pa.int64())),
    ("first_error", pa.int64()),
    ("sureness", pa.float64()),
)


@dataclass(frozen=True, kw_only=True)
class LearnedPrior(Record):
    """What `genprm.smoothing` learned from the counts of ``num_solutions``: its ``initial`` [2, G] and ``weights`` [2, B, C]."""

    initial: Sequence[Sequence[float]]
    weights: Sequence[Sequence[Sequence[float]]]
    num_solutions: int

    FIELDS: ClassVar[Fields] = (
        ("initial", _list(_list(pa.float64()))),
        ("weights", _list(_list(_list(pa.float64())))),
        ("num_solutions", pa.int64()),
    )


@dataclass(frozen=True, kw_only=True)
class LabelledSolution(Solution):
    """A solution with step labels: 1 a good step, 0 a bad one; ``first_error`` is 0-based, -1 for none.

    ``values_S`` and ``progress_S`` are what the labels were derived from, None where they were given; ``sureness`` is the probability
    of ``first_error`` where a rule gives one.
    """

    values_S: tuple[float, ...] | None
    progress_S: tuple[float, ...] | None
    labels_S: tuple[int, ...]
    first_error: int
    sureness: float | None = None

    FIELDS: ClassVar[Fields] = _LABEL_FIELDS

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("values_S", "progress_S", "labels_S"):
            if getattr(self, name) is None:
                continue
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if len(getattr(self, name)) != len(self.steps):
                raise ValueError(f"{self.id}: {len(getattr(self, name))} entries in {name} for {len(self.steps)} steps")


@dataclass(frozen=True, kw_only=True)
class Critique(Record):
    """The rationale model's judgement of a solution.

    ``segments`` are its whole turn; ``index_votes_V`` what each short continuation named (None: unreadable), 0-based with
    -1 for no error; ``judged_first_error`` their majority, None unless ``outcome`` is READ.
    """

    id: str
    problem_id: str
    problem: str
    level: str | None
    steps: tuple[str, ...]
    segments: tuple[Segment, ...]
    outcome: CritiqueOutcome
    index_votes_V: tuple[int | None, ...]
    judged_first_error: int | None
    num_code_blocks: int
    num_tokens: int

    FIELDS: ClassVar[Fields] = (
        ("id", pa.string()),
        ("problem_id", pa.string()),
        ("problem", pa.string()),
        ("level", pa.string()),
        ("steps", _list(pa.string())),
        ("segments", _list(_SEGMENT_TYPE)),
        ("outcome", pa.string()),
        ("index_votes_V", _list(pa.int64())),
        ("judged_first_error", pa.int64()),
        ("num_code_blocks", pa.int64()),
        ("num_tokens", pa.int64()),
    )

    def __post_init__(self) -> None:
        for name in ("steps", "index_votes_V"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "segments", _tuple(Segment, self.segments))
        object.__setattr__(self, "outcome", CritiqueOutcome(self.outcome))


@dataclass(frozen=True, kw_only=True)
class Conversation(Record):
    """A training example: one user and one assistant turn per step, ending at the first error (method, stage 6)."""

    id: str
    problem_id: str
    messages: tuple[Message, ...]
    first_error: int

    FIELDS: ClassVar[Fields] = (
        ("id", pa.string()),
        ("problem_id", pa.string()),
        ("messages", _list(_MESSAGE_TYPE)),
        ("first_error", pa.int64()),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", _tuple(Message, self.messages))


@dataclass(frozen=True, kw_only=True)
class BenchmarkSolution(Record):
    """A row of a ProcessBench file: a solution with its known first error (0-based, -1 for none)."""

    id: str
    problem: str
    steps: tuple[str, ...]
    label: int

    FIELDS: ClassVar[Fields] = (("id", pa.string()), ("problem", pa.string()), ("steps", _list(pa.string())), ("label", pa.int64()))

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        if not -1 <= self.label < len(self.steps):
            raise ValueError(f"label {self.label} is no step of a solution of {len(self.steps)} steps; use -1 or 0..{len(self.steps) - 1}")


_VOTE_TYPE = pa.struct([("reward", pa.float64()), ("verdict", pa.string()), ("segments", _list(_SEGMENT_TYPE))])


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One GenPRM judgement of one step: ``reward`` is P(Yes)/(P(Yes)+P(No)), None where no verdict was readable.

    ``segments`` are the rationale: its words, code and output, verdict included.
    """

    reward: float | None
    verdict: str
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", _tuple(Segment, self.segments))

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments)


@dataclass(frozen=True, kw_only=True)
class JudgedSolution(Record):
    """A verifier's judgement. ``votes_S[t].votes`` are the votes on step t; steps after an early stop have none.

    ``rewards_S[t]`` is the mean over the readable votes, None without one. ``prediction`` is the first step judged wrong
    (-1: none; None: a step had no readable vote, or no room in the context, before any was judged wrong). ``first_vote_prediction`` is
    the same for
    vote 0 alone, which is judging with one sample.
    """

    id: str
    label: int
    votes_S: tuple[tuple[Vote, ...], ...]
    rewards_S: tuple[float | None, ...]
    prediction: int | None
    first_vote_prediction: int | None
    num_unreadable: int
    num_code_blocks: int
    num_tokens: int

    FIELDS: ClassVar[Fields] = (
        ("id", pa.string()),
        ("label", pa.int64()),
        ("votes_S", _list(_list(_VOTE_TYPE))),
        ("rewards_S", _list(pa.float64())),
        ("prediction", pa.int64()),
        ("first_vote_prediction", pa.int64()),
        ("num_unreadable", pa.int64()),
        ("num_code_blocks", pa.int64()),
        ("num_tokens", pa.int64()),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "votes_S", tuple(_tuple(Vote, votes) for votes in self.votes_S))
        object.__setattr__(self, "rewards_S", tuple(self.rewards_S))


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One sampled solution in best-of-N: its answer, whether it is right, and its score (None: not scorable)."""

    answer: str | None
    outcome: Outcome
    score: float | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "outcome", Outcome(self.outcome))


_CANDIDATE_TYPE = pa.struct([("answer", pa.string()), ("outcome", pa.string()), ("score", pa.float64())])


@dataclass(frozen=True, kw_only=True)
class SearchResult(Record):
    """One problem of search.

    ``candidates`` are the sampled solutions with their scores; ``CHOICES`` say whether each way of choosing gets the problem right (1 or
    0): ``pass_at_1`` is the share of right candidates, ``majority`` takes the answer that most of them gave, ``weighted`` the one whose
    candidates' scores sum to most, ``best_of_n`` the candidate of the best score. ``critic_outcomes[k]`` is the outcome
    after k rewrites, ``critic_judged[k]`` the step judged wrong in the solution before rewrite k + 1 (-1: none, so nothing
    is rewritten; None: no readable verdict).
    """

    id: str
    candidates: tuple[Candidate, ...]
    pass_at_1: float
    majority: float
    weighted: float
    best_of_n: float
    pass_at_n: float
    critic_outcomes: tuple[Outcome, ...]
    critic_judged: tuple[int | None, ...]
    critic_texts: tuple[str, ...]
    num_tokens: int

    CHOICES: ClassVar[tuple[str, ...]] = ("pass_at_1", "majority", "weighted", "best_of_n", "pass_at_n")
    FIELDS: ClassVar[Fields] = (
        ("id", pa.string()),
        ("candidates", _list(_CANDIDATE_TYPE)),
        ("pass_at_1", pa.float64()),
        ("majority", pa.float64()),
        ("weighted", pa.float64()),
        ("best_of_n", pa.float64()),
        ("pass_at_n", pa.float64()),
        ("critic_outcomes", _list(pa.string())),
        ("critic_judged", _list(pa.int64())),
        ("critic_texts", _list(pa.string())),
        ("num_tokens", pa.int64()),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "candidates", _tuple(Candidate, self.candidates))
        object.__setattr__(self, "critic_outcomes", tuple(Outcome(outcome) for outcome in self.critic_outcomes))
        for name in ("critic_judged", "critic_texts"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
