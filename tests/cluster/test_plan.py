from cluster.plan import READING, Demand, shortfall


def test_demands_add_up() -> None:
    demand = Demand(cpus=2, gpus=1).times(3) + Demand(cpus=0.5) + READING
    assert demand == Demand(cpus=7.5, gpus=3)


def test_a_shortfall_is_named_with_its_remedy() -> None:
    assert shortfall(Demand(cpus=2), {"CPU": 2.0}) is None
    message = shortfall(Demand(cpus=5.5, gpus=1), {"CPU": 4.0})
    assert message is not None
    assert message.startswith("needs 5.5 CPUs, of which there are 4 and 1 GPUs, of which there are 0; lower engines")
