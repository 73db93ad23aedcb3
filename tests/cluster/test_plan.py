from cluster.plan import READ_TASK, Demand, shortfall


def test_demands_add_up() -> None:
    demand = Demand(cpus=2, gpus=1).times(3) + Demand(cpus=0.5) + READ_TASK
    assert demand == Demand(cpus=7.5, gpus=3)


def test_a_shortfall_is_named_with_its_remedy() -> None:
    assert shortfall(Demand(cpus=2), {"CPU": 2.0}) is None
    message = shortfall(Demand(cpus=5.5, gpus=1), {"CPU": 4.0})
    assert message is not None
    assert message.startswith("needs 5.5 CPU, of which there are 4 and 1 GPU, of which there are 0; lower engines")


def test_custom_resources_count_too() -> None:
    demand = Demand(cpus=1, custom={"sandbox": 1.0}).times(2) + Demand(custom={"sandbox": 1.0})
    assert shortfall(demand, {"CPU": 2.0, "sandbox": 3.0}) is None
    assert "needs 3 sandbox, of which there are 0" in (shortfall(demand, {"CPU": 2.0}) or "")
