from hypothesis import given
from hypothesis import strategies as st

from genprm.steps import join_steps, prefix_after, split_steps


def test_splits_at_markers_that_count_on() -> None:
    assert split_steps("Step 1: a\nmore a\n\nStep 2: b\nStep 3: c") == ["a\nmore a", "b", "c"]


def test_blank_lines_and_quoted_markers_are_not_boundaries() -> None:
    assert split_steps("Step 1: see\nStep 1: again\n\nstill\nStep 3: no\nStep 2: b") == [
        "see\nStep 1: again\n\nstill\nStep 3: no",
        "b",
    ]


def test_text_without_markers_is_one_step_and_empty_text_none() -> None:
    assert split_steps("just text") == ["just text"]
    assert split_steps("  \n") == []


def test_text_before_the_first_marker_is_dropped() -> None:
    assert split_steps("Sure!\nStep 1: a") == ["a"]


def test_prefix_ends_in_the_next_marker() -> None:
    assert prefix_after(["a", "b"]) == "Step 1: a\nStep 2: b\nStep 3:"
    assert prefix_after([]) == "Step 1:"


@given(st.text())
def test_any_text_splits(text: str) -> None:
    assert all(step == step.strip() for step in split_steps(text))


@given(st.lists(st.text(alphabet="abc 123=+\n", min_size=1).map(str.strip).filter(bool), min_size=1, max_size=6))
def test_split_inverts_join(steps: list[str]) -> None:
    assert split_steps(join_steps(steps)) == steps
