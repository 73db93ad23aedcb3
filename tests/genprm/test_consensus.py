from genprm.consensus import agree, agreement, judge_labels, majority_index


def test_majority_ignores_unreadable_votes_and_breaks_ties_by_order() -> None:
    assert majority_index([None, 2, 1, 2]) == 2
    assert majority_index([1, 2]) == 1
    assert majority_index([None, None]) is None


def test_judge_labels_end_at_the_first_error() -> None:
    assert judge_labels(2, 5) == [1, 1, 0]
    assert judge_labels(-1, 3) == [1, 1, 1]


def test_agreement_up_to_and_including_the_first_error() -> None:
    assert agree([1, 0, 1, 0], 1)
    assert not agree([1, 0, 1], 2)
    assert not agree([1, 0, 1], -1)
    assert agree([1, 1, 1], -1)
    assert not agree([1, 1, 1], 0)


def test_agreement_is_counted_by_first_error_and_by_level() -> None:
    rows = [(-1, -1, "Level 1"), (-1, 0, "Level 1"), (0, 0, "Level 5"), (1, None, "Level 5"), (9, 12, None)]
    found = agreement(rows, [True, False, True, False, False], most_steps=3)
    assert found.names == ["none", "1", "2", "3+"]
    assert found.matrix == [[1, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 1, 0]]
    assert found.levels == {"-": (1, 0), "Level 1": (2, 1), "Level 5": (2, 1)}
    assert agreement([(-1, -1, "a"), (0, 0, "a")], [True, True]).names == ["none", "1"]
