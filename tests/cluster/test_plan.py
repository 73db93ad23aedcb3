from cluster.plan import Demand, room_for, shortfall

EIGHT_GPUS = {"CPU": 64.0, "GPU": 8.0}
TWO_GPUS = {"CPU": 16.0, "GPU": 2.0}


def test_a_shortfall_is_named_with_its_remedy() -> None:
    assert shortfall([Demand(cpus=2)], [{"CPU": 2.0}]) is None
    message = shortfall([Demand(cpus=5.5, gpus=1)], [{"CPU": 4.0}])
    assert message is not None
    assert message.startswith("needs 5.5 CPU, of which there are 4 and 1 GPU, of which there are 0; lower engines")


def test_custom_resources_count_too() -> None:
    demands = [Demand(cpus=1, custom={"sandbox": 1.0})] * 2 + [Demand(custom={"sandbox": 1.0})]
    assert shortfall(demands, [{"CPU": 2.0, "sandbox": 3.0}]) is None
    assert "needs 3 sandbox, of which there are 0" in (shortfall(demands, [{"CPU": 2.0}]) or "")


def test_an_engine_of_four_gpus_does_not_fit_nodes_of_two() -> None:
    engine = Demand(cpus=1, gpus=4)
    assert shortfall([engine], [TWO_GPUS] * 4) == (
        "needs nodes of another size: on none is there room for 1 CPU and 4 GPU beside the others; lower engines.*.num_cpus or num_gpus "
        "and pools.*.num_workers, or raise ray.num_cpus"
    )
    assert shortfall([engine, engine], [EIGHT_GPUS]) is None
    assert shortfall([engine] * 3, [EIGHT_GPUS, TWO_GPUS, TWO_GPUS]) is not None


def test_small_demands_leave_room_for_large_ones() -> None:
    demands = [Demand(cpus=1, gpus=1)] * 2 + [Demand(cpus=1, gpus=8)]
    assert shortfall(demands, [EIGHT_GPUS, TWO_GPUS]) is None


def test_what_an_autoscaler_can_bring_is_not_missing() -> None:
    assert shortfall([Demand(gpus=8)] * 100, [TWO_GPUS], growable=[EIGHT_GPUS]) is None
    assert shortfall([Demand(gpus=9)], [TWO_GPUS], growable=[EIGHT_GPUS]) is not None


def test_room_is_counted_by_node() -> None:
    assert room_for(Demand(cpus=1, gpus=4), [EIGHT_GPUS, TWO_GPUS, TWO_GPUS]) == 2
    assert room_for(Demand(cpus=0.1), [{"CPU": 0.3}]) == 3
    assert room_for(Demand(gpus=1), [{"CPU": 64.0}]) == 0
