import json
from pathlib import Path

import pytest

from actors.estimator import PaperEstimatorConfig
from actors.storage import Folder
from jobs.config import load, resolved
from workflows.stage.links import FORMAT

PRESETS = sorted(set(Path("jobs/presets").glob("*.toml")) - {Path("jobs/presets/pretrain_toy.toml")})
RUN = Folder("/nowhere/run")


@pytest.mark.parametrize("preset", PRESETS, ids=lambda file: file.stem)
def test_every_preset_parses(preset: Path) -> None:
    config = load(str(preset), [], RUN)
    assert config.engines.verifier.model == "/nowhere/run/train/genprm/export"  # type: ignore[union-attr]
    assert '"epsilon": 0.8' in resolved(config)


def test_the_paper_preset_holds_the_papers_numbers() -> None:
    config = load("jobs/presets/paper.toml", [], RUN)
    assert config.rollouts.max_paths == 2048
    estimator = config.estimates["paper"]
    assert isinstance(estimator, PaperEstimatorConfig)
    assert (estimator.hard, estimator.middle, estimator.easy) == (128, 64, 32)
    assert (config.labels["rpe"].rule, config.labels["rpe"].epsilon) == ("ratio", 0.8)
    assert (config.models["genprm"].batch_size, config.models["genprm"].learning_rate) == (64, 2e-6)
    sampling = config.rationales.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.6, 0.95, 40)
    verifier = config.verifiers["genprm"]
    sampling = verifier.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (0.6, 0.95, 20, 2048)
    assert (verifier.max_code_rounds, verifier.num_votes) == (3, 8)


def test_a_file_extends_another() -> None:
    paper, thrifty = (load(f"jobs/presets/{name}.toml", [], RUN) for name in ("paper", "paper-thrifty"))
    assert (thrifty.labels["rpe"].rule, thrifty.labels["rpe"].estimates) == ("smoothed", "thrifty")
    assert thrifty.estimates["thrifty"].type == "thrifty"
    assert (paper.rollouts.max_paths_per_solution, thrifty.rollouts.max_paths_per_solution) == (None, 400)
    sections = {"estimates": paper.estimates, "labels": paper.labels, "rollouts": paper.rollouts}
    assert thrifty.model_copy(update=sections) == paper


def test_files_may_not_extend_one_another_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('extends = "b.toml"')
    (tmp_path / "b.toml").write_text('extends = "a.toml"')
    with pytest.raises(ValueError, match="in a circle"):
        load(str(tmp_path / "a.toml"), [], RUN)


def test_settings_change_with_set() -> None:
    config = load("jobs/presets/test.toml", ["labels.rpe.epsilon=0.5", "problems.path=a/b.jsonl", "rollouts.first_round = 9"], RUN)
    assert (config.labels["rpe"].epsilon, config.problems.path, config.rollouts.first_round) == (0.5, "a/b.jsonl", 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("labels.rpe.epsilom=1", r"labels\.rpe\.epsilom: there is no such setting"),
        ("labels.rpe.epsilon=high", r"labels\.rpe\.epsilon = 'high'"),
        ("labels.rpe.rule=best", r"labels\.rpe\.rule = 'best'"),
        ("estimates.paper.hard=0", r"estimates\.paper\.hard = 0"),
        ('estimates.paper.hard="9"', r"estimates\.paper\.hard = '9'.*valid integer"),
        ("train.epochs=true", r"train\.epochs = True.*valid integer"),
        ("train.epochs=1.5", r"train\.epochs = 1\.5"),
        ("labels.rpe.epsilon=nan", r"labels\.rpe\.epsilon = nan"),
        ("engines.policy.model=./nowhere", r"engines\.policy\.model = '\./nowhere': no model is there"),
        ("engines.policy.type=gpt", r"engines\.policy"),
        ("policy.prompt=hello", r"policy\.prompt.*\{problem\}"),
        ("models.genprm.epochs=1.5", r"models\.genprm\.epochs = 1\.5"),
        (
            "labels.rpe.estimates=other",
            r"labels\.rpe\.estimates = 'other': there is no such table; \[estimates\.NAME\] has: paper, thrifty",
        ),
        ('search.verifiers=["x"]', r"search\.verifiers = 'x': there is no such table"),
        ("verifiers.trained.engine.model=./nowhere", r"verifiers\.trained\.engine\.model = '\./nowhere': no model is there"),
        ("benchmarks.a/b.path=x", r"benchmarks\.a/b"),
        ("labels", r"write it as section\.key=value"),
        ("seed.x=1", r"'seed' is a setting"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(change: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load("jobs/presets/test.toml", [change], RUN)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--config = 'nowhere\.toml'"):
        load("nowhere.toml", [], RUN)
    (tmp_path / "x.toml").write_text("a = [")
    with pytest.raises(ValueError, match="not TOML"):
        load(str(tmp_path / "x.toml"), [], RUN)
    (tmp_path / "y.toml").write_text("seed = 1")
    with pytest.raises(ValueError, match="engines: must be set"):
        load(str(tmp_path / "y.toml"), [], RUN)


def test_what_tables_share_stands_once_and_each_may_differ() -> None:
    changes = ["train.epochs=3", "models={small={},large={epochs=5}}", "verifiers.trained.num_votes=4"]
    config = load("jobs/presets/laptop.toml", changes, RUN)
    assert {name: model.epochs for name, model in config.models.items()} == {"small": 3, "large": 5}
    assert {name: verifier.num_votes for name, verifier in config.verifiers.items()} == {"base": 1, "trained": 4, "not-run": 8}
    assert {verifier.engine.max_model_len for verifier in config.verifiers.values()} == {2048}  # type: ignore[union-attr]


def test_what_reads_a_table_and_does_not_name_it_reads_the_first() -> None:
    config = load("jobs/presets/paper.toml", ['labels={a={},b={rule="hard"},c={rule="given"}}'], RUN)
    assert [labels.estimates for labels in config.labels.values()] == ["paper", "paper", None]
    assert {name: conversations.labels for name, conversations in config.conversations.items()} == {"a": "a", "b": "b", "c": "c"}
    assert config.models["genprm"].conversations == "a"


def test_a_model_of_another_run_is_served_from_there(tmp_path: Path) -> None:
    other = tmp_path / "other" / "train" / "genprm"
    other.mkdir(parents=True)
    (other / "_stage.json").write_text(json.dumps({"format": FORMAT}))
    (other / "export").mkdir()
    (other / "export" / "config.json").write_text("{}")
    config = load("jobs/presets/laptop.toml", [f'reuse.train/genprm="{tmp_path / "other"}"'], RUN)
    assert config.verifiers["trained"].engine.model == str(other / "export")  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"reuse\.train/genprm = 'nowhere': no finished stage train/genprm is there"):
        load("jobs/presets/laptop.toml", ['reuse.train/genprm="nowhere"'], RUN)
