"""Plans: arithmetic that can be checked by hand, assumptions and prices that are refused by name, and tokens near what was spent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from actors.storage import Folder
from genprm.errors import UserError
from jobs.config import load
from tests.jobs.running import ROOT
from tests.workflows.scripted_loop import NUM_PROBLEMS, all_stages, configuration, rows
from workflows.planning.assumptions import DEFAULTS, assumptions
from workflows.planning.forecast import Planner, StageForecast, measured_stages, table
from workflows.planning.hardware import GIB, GPUS, Gpu, Model, model_of, speed
from workflows.planning.prices import Prices, read_prices
from workflows.stage.graph import run_stages
from workflows.stage.run import Run

PAPER = "jobs/presets/paper.toml"
A_GPU = Gpu(memory_gib=80, bandwidth=2e12, flops=200e12)


def test_decoding_is_bound_by_memory_or_by_arithmetic() -> None:
    model = Model(parameters=10e9, kv_bytes=100_000)
    few = speed(model, A_GPU, 1, context=1000, sequences=10, decode=0.5, prefill=0.4)
    # 20 GB of weights and 1 GB of cache at 2 TB/s: 10.5 ms a step of 10 tokens; half of it is reached
    assert few.generated == pytest.approx(0.5 * 10 / 0.0105)
    assert few.read == pytest.approx(0.4 * 200e12 / 20e9)
    short = speed(Model(parameters=10e9, kv_bytes=10), A_GPU, 1, context=10, sequences=1000, decode=1.0, prefill=1.0)
    assert short.generated == pytest.approx(200e12 / 20e9)  # 1,000 sequences at 20 GFLOP take 100 ms, their bytes 10 ms
    full = speed(model, A_GPU, 1, context=10_000, sequences=1000, decode=1.0, prefill=1.0)
    assert full.sequences == pytest.approx((80 * GIB * 0.9 - 21e9) / 1e9)
    with pytest.raises(UserError, match=r"a model of 50B parameters with 1,000 tokens of context does not fit 1 GPUs of 80 GiB"):
        speed(Model(parameters=50e9, kv_bytes=100_000), A_GPU, 1, context=1000, sequences=10, decode=1.0, prefill=1.0)


def test_a_models_size_is_in_its_name_or_in_its_files() -> None:
    assert model_of("Qwen/Qwen2.5-7B-Instruct") == Model(parameters=7e9, kv_bytes=57_344)
    assert model_of("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B") == Model(parameters=1.5e9, kv_bytes=28_672)
    toy = model_of("genprm/toy/models/policy")
    assert 3e5 < toy.parameters < 1e6
    with pytest.raises(UserError, match="its size is in no local config"):
        model_of("owner/some-model")


def test_the_papers_numbers_come_out_of_the_papers_rules() -> None:
    planner = Planner(config=load(PAPER, [], Folder("/never")), assumed=assumptions([]), gpu=GPUS["H100"])
    stages = {stage.stage: stage for stage in planner.stages()}
    assert 42_000 < stages["rollouts"].rows_out < 52_000  # the paper has 47K solutions, and 23K conversations
    assert 20_000 < stages["train/genprm"].rows_in < 25_500
    assert stages["estimates/paper"].completion_tokens > 5 * stages["rationales"].completion_tokens
    assert {stage.gpus for name, stage in stages.items() if not name.startswith("search")} == {8.0}
    for stage in stages.values():
        assert stage.gpu_hours == pytest.approx(stage.gpus * stage.wall_s / 3600)
    thrifty = Planner(config=load("jobs/presets/paper-thrifty.toml", [], Folder("/never")), assumed=assumptions([]), gpu=GPUS["H100"])
    cheaper = {stage.stage: stage for stage in thrifty.stages()}
    assert cheaper["rollouts"].completion_tokens < 0.5 * stages["rollouts"].completion_tokens
    assert cheaper["estimates/thrifty"].completion_tokens < 0.5 * stages["estimates/paper"].completion_tokens
    assert "estimates/paper" not in cheaper  # nothing reads them


def test_assumptions_are_changed_by_name() -> None:
    assert assumptions(["rationale_tokens=10"])["rationale_tokens"].value == 10
    assert all(assumption.source for assumption in DEFAULTS.values())
    for wrong, message in (
        ("tokens=1", "one of problems, "),
        ("problems", "name=value"),
        ("problems=0", "positive"),
        ("problems=x", "positive"),
    ):
        with pytest.raises(UserError, match=message):
            assumptions([wrong])


def test_prices(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('currency = "EUR"\ngpu_hour = 2.5\ncpu_hour = 0.1\nmillion_completion_tokens = 4.0\n')
    prices = read_prices(str(file))
    stage = StageForecast(stage="s", rows_in=1, rows_out=1, gpu_hours=4, cpu_hours=10, completion_tokens=3e6)
    assert stage.cost(prices) == pytest.approx(4 * 2.5 + 10 * 0.1)
    assert table([stage], prices).rows[-1][-1] == "11"
    endpoint = StageForecast(stage="s", rows_in=1, rows_out=1, completion_tokens=3e6, is_endpoint=True)
    assert endpoint.cost(prices) == pytest.approx(12.0)
    assert table([stage], None).head[-1] == "hours"
    for text, message in (
        ("gpu_hours = 1", r"gpu_hours: .*it may have currency, gpu_hour"),
        ("gpu_hour = -1", "gpu_hour: "),
        ("[", "can't be read"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=message):
            read_prices(str(file))
    assert Prices().gpu_hour == 0


@pytest.mark.ray
def test_from_a_sample_tokens_are_near_what_the_whole_run_spent(calm: Folder, tmp_path: Path, local_ray: None) -> None:
    run = Folder(str(tmp_path / "sample"))
    few = configuration(tmp_path, run, ["problems.limit=4"])
    stages = all_stages(few, run)
    run_stages(stages, Run.untracked(run), [stage.name for stage in stages if stage.name != "estimates/thrifty"])
    whole = configuration(tmp_path, calm)
    planner = Planner(config=whole, assumed=assumptions([]), gpu=GPUS["H100"], measured=measured_stages(whole, run), problems=NUM_PROBLEMS)
    planned = {stage.stage: stage for stage in planner.stages()}
    for name in ("rollouts", "estimates/paper", "rationales", "evaluate/genprm/sums", "search/genprm/sums"):
        spent = sum(row["num_tokens"] for row in rows(calm, name))
        assert planned[name].basis == "measured"
        assert planned[name].completion_tokens == pytest.approx(spent, rel=0.2), name
    assert planned["rollouts"].rows_out == pytest.approx(len(rows(calm, "solutions")), rel=0.2)
    with pytest.raises(UserError, match="no stage of this configuration is finished there"):
        measured_stages(whole, Folder(str(tmp_path / "nothing")))


def test_the_job_prints_a_plan_with_its_assumptions(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text("gpu_hour = 2.0")
    command = [sys.executable, "-m", "jobs.plan", "--config", PAPER, "--prices", str(tmp_path / "prices.toml"), "--assume", "problems=75"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].split()[-2:] == ["hours", "USD"]
    assert any(line.startswith("rollouts ") and " 75 " in line for line in lines)
    assert "  problems = 75: given with --assume" in lines
    as_json = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert json.loads(as_json.stdout)["stages"][0]["stage"] == "rollouts"
    wrong = subprocess.run([*command, "--gpu", "P100"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (wrong.returncode, wrong.stderr) == (2, "error: --gpu = 'P100': give one of L40S, A100, H100, H200, B200\n")
