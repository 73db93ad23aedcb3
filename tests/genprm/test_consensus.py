from genprm.consensus import agree, judge_labels, majority_index


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
