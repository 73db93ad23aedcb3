from pathlib import Path

import pytest

from actors.estimator import PaperEstimatorConfig
from jobs.config import load, resolved
from workflows.stage.folder import Folder

PRESETS = sorted(set(Path("jobs/presets").glob("*.toml")) - {Path("jobs/presets/pretrain_toy.toml")})
RUN = Folder("/nowhere/run")


@pytest.mark.parametrize("preset", PRESETS, ids=lambda file: file.stem)
def test_every_preset_parses(preset: Path) -> None:
    config = load(str(preset), [], RUN)
    assert config.engines.verifier.model == "/nowhere/run/train/export"  # type: ignore[union-attr]
    assert '"epsilon": 0.8' in resolved(config)


def test_the_paper_preset_holds_the_papers_numbers() -> None:
    config = load("jobs/presets/paper.toml", [], RUN)
    assert config.rollouts.max_paths == 2048
    assert isinstance(config.estimates, PaperEstimatorConfig)
    assert (config.estimates.hard, config.estimates.middle, config.estimates.easy) == (128, 64, 32)
    assert (config.labels.rule, config.labels.epsilon) == ("ratio", 0.8)
    assert (config.train.batch_size, config.train.learning_rate) == (64, 2e-6)
    sampling = config.rationales.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.6, 0.95, 40)
    sampling = config.verifier.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (0.6, 0.95, 20, 2048)
    assert (config.verifier.max_code_rounds, config.verifier.num_votes) == (3, 8)


def test_a_file_extends_another() -> None:
    paper, thrifty = (load(f"jobs/presets/{name}.toml", [], RUN) for name in ("paper", "paper-thrifty"))
    assert (thrifty.estimates.type, thrifty.labels.rule) == ("thrifty", "smoothed")
    assert thrifty.model_copy(update={"estimates": paper.estimates, "labels": paper.labels}) == paper


def test_files_may_not_extend_one_another_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('extends = "b.toml"')
    (tmp_path / "b.toml").write_text('extends = "a.toml"')
    with pytest.raises(ValueError, match="in a circle"):
        load(str(tmp_path / "a.toml"), [], RUN)


def test_settings_change_with_set() -> None:
    config = load("jobs/presets/test.toml", ["labels.epsilon=0.5", "problems.path=a/b.jsonl", "rollouts.first_round = 9"], RUN)
    assert (config.labels.epsilon, config.problems.path, config.rollouts.first_round) == (0.5, "a/b.jsonl", 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("labels.epsilom=1", r"labels\.epsilom: there is no such setting"),
        ("labels.epsilon=high", r"labels\.epsilon = 'high'"),
        ("labels.rule=best", r"labels\.rule = 'best'"),
        ("estimates.hard=0", r"estimates\.hard = 0"),
        ('estimates.hard="9"', r"estimates\.hard = '9'.*valid integer"),
        ("train.epochs=true", r"train\.epochs = True.*valid integer"),
        ("train.epochs=1.5", r"train\.epochs = 1\.5"),
        ("labels.epsilon=nan", r"labels\.epsilon = nan"),
        ("engines.policy.model=./nowhere", r"engines\.policy\.model = '\./nowhere': no model is there"),
        ("engines.policy.type=gpt", r"engines\.policy"),
        ("policy.prompt=hello", r"policy\.prompt.*\{problem\}"),
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
