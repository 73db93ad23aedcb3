"""The names under which data sets keep the same thing; the first that has a value counts. They are defaults: a setting replaces them."""

from __future__ import annotations

PROBLEM = ("problem", "question", "prompt", "Problem", "Question", "query")
ANSWER = (
    "answer", "final_answer", "reward_model.ground_truth", "ground_truth", "ground_truth_answer", "expected_answer", "gt_answer", "Answer",
)  # fmt: skip
ID = ("unique_id", "id", "uuid", "problem_id", "question_id", "extra_info.index", "idx")
LEVEL = ("level", "difficulty")
