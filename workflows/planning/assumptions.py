"""What a plan needs and a configuration does not say: each number with its source, each to be overridden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from genprm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Assumption:
    value: float
    source: str


_TOKENIZER = "Qwen's tokenizer"
DEFAULTS: Mapping[str, Assumption] = {
    "problems": Assumption(value=7500, source="MATH train, as in the paper (3.2.1)"),
    "problem_tokens": Assumption(value=55, source=f"mean of 1,500 problems of MATH train, {_TOKENIZER}"),
    "solution_tokens": Assumption(value=390, source=f"mean of 800 solutions of Qwen2.5-Math on MATH, {_TOKENIZER}"),
    "solution_steps": Assumption(value=6.5, source="mean of 1,000 solutions of MATH in ProcessBench"),
    "policy_accuracy": Assumption(value=0.74, source="Qwen2.5-7B-Instruct reports 75.5 on MATH; how it spreads over problems is assumed"),
    "rationale_tokens": Assumption(value=4000, source="a guess for QwQ-32B; measure it with --sample"),
    "kept_share": Assumption(value=0.49, source="the paper's consensus filter drops about 51% (3.2.3)"),
    "response_tokens": Assumption(value=2771, source="GenPRM-7B on MATH (paper, Table 9): the words of a training conversation"),
    "judged_step_tokens": Assumption(value=345, source="GenPRM-7B on MATH (paper, Table 9)"),
    "steps_to_first_error": Assumption(value=4.4, source="mean of 1,000 solutions of MATH in ProcessBench, whole ones where right"),
    "benchmark_rows": Assumption(value=1000, source="ProcessBench's larger sets; where the benchmark's file can't be read"),
    "search_rows": Assumption(value=500, source="MATH-500; where the file of search problems can't be read"),
    "rewritten_share": Assumption(value=0.5, source="a guess: critic turns in which the solution is rewritten"),
    "decode_efficiency": Assumption(value=0.3, source="a guess: share of what memory bandwidth or arithmetic allow that vLLM reaches"),
    "prefill_efficiency": Assumption(value=0.4, source="a guess: share of peak arithmetic while prompts are read"),
    "stage_efficiency": Assumption(value=0.97, source="measured: share of a full engine's throughput that stages reach (docs/scale.md)"),
    "train_mfu": Assumption(value=0.35, source="a guess: model FLOPs utilization of ZeRO on one node"),
    "engine_start_s": Assumption(value=120, source="a guess: loading, compiling and warming up an engine"),
    "sequences": Assumption(value=1024, source="vLLM's own limit on an H100, where engines.<role>.max_num_seqs is not set"),
}


def assumptions(given: Sequence[str]) -> dict[str, Assumption]:
    """The defaults with ``name=value`` changes; UserError for a name that there is not, or a value that is no positive number."""
    found = dict(DEFAULTS)
    for change in given:
        name, equals, text = change.partition("=")
        if not equals or name not in DEFAULTS:
            raise UserError(f"--assume {change!r}: write it as name=value, with one of {', '.join(DEFAULTS)}")
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not 0 < value < float("inf"):
            raise UserError(f"--assume {change!r}: {name} must be a positive number")
        found[name] = Assumption(value=value, source="given with --assume")
    return found
