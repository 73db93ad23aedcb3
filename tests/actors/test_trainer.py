from actors.trainer import batch_indices


def test_each_epoch_is_a_permutation_cut_into_batches() -> None:
    batches = batch_indices(num_rows=10, batch_size=4, epochs=2, seed=1)
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]
    for epoch in (batches[:3], batches[3:]):
        assert sorted(row for batch in epoch for row in batch) == list(range(10))
    assert batches[:3] != batches[3:]
    assert batches == batch_indices(num_rows=10, batch_size=4, epochs=2, seed=1)
    assert batches != batch_indices(num_rows=10, batch_size=4, epochs=2, seed=2)
