"""Conversations to a checkpoint to a Hugging Face export: DeepSpeed under Ray Train."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayError
from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from actors.imports import without_collection
from actors.training.config import TrainConfig
from cluster.plan import Demand
from genprm.records import Conversation, Record
from workflows.config import Config
from workflows.stage import parts
from workflows.stage.actor import SETUP_ERROR
from workflows.stage.errors import SetupFailed, StageFailed
from workflows.stage.folder import Folder
from workflows.stage.links import dataset
from workflows.stage.parts import PartAccount, RejectedRow, StageSummary
from workflows.stage.progress import StageProgress
from workflows.stage.record import finish
from workflows.stage.run import Run
from workflows.stage.stage import Stage
from workflows.stage.versions import versions

EXPORT = "export"
LOG = "log.jsonl"
TOO_LONG = "_too_long.json"
POLL_S = 0.5


class TrainStep(Record):
    """One optimizer step of the training log."""

    FIELDS = (
        ("step", pa.int64()),
        ("loss", pa.float64()),
        ("learning_rate", pa.float64()),
        ("tokens", pa.int64()),
        ("seconds", pa.float64()),
    )


class _Trainer(TorchTrainer):
    """Ray's, without its handler of Ctrl-C, which it would leave behind and which ends the job as if all were well."""

    def _register_sigint_handler(self, controller: Any) -> None:
        pass


def stages(config: Config) -> list[Stage]:
    """A stage for each model."""
    return [
        TrainStage(name=f"train/{name}", reads=(f"conversations/{model.conversations}",), writes=TrainStep, settings=model)
        for name, model in config.models.items()
    ]


def export_folder(run: Folder, name: str) -> Path:
    """Where the trained model is, in Hugging Face format."""
    return local_path(dataset(run, f"train/{name}")) / EXPORT


def local_path(folder: Folder) -> Path:
    if not folder.is_local:
        raise ValueError(f"--run-dir: {folder.uri!r}: training writes checkpoints through a file system; mount it and give its path")
    return Path(folder.uri).absolute()


@dataclass(frozen=True, kw_only=True)
class TrainStage(Stage):
    """Fine-tunes a model on a set of conversations; resumes from the newest checkpoint. Its dataset is the training log."""

    settings: TrainConfig

    @property
    def demand(self) -> Demand:
        return Demand(cpus=self.settings.num_cpus, gpus=self.settings.num_gpus).times(self.settings.num_workers)

    def make(self, run: Run, plan: Mapping[str, Any]) -> StageSummary:
        config, folder = self.settings, local_path(run.folder / self.name)
        rows_in = int(parts.read_record(run.folder, self.reads[0])["rows_out"])
        if rows_in == 0:
            raise StageFailed(f"{self.reads[0]} has no rows: nothing to train on; look at its rejects for why")
        failure = folder / SETUP_ERROR
        failure.unlink(missing_ok=True)
        trainer = _Trainer(
            _train_in_worker,
            train_loop_config={"config": config.model_dump(), "folder": str(folder)},
            datasets={"train": ray.data.read_parquet(parts.part_paths(run.folder, self.reads[0])).materialize()},
            dataset_config=DataConfig(datasets_to_split=[]),
            torch_config=TorchConfig(backend="nccl" if config.num_gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=config.num_workers,
                use_gpu=config.num_gpus > 0,
                resources_per_worker={"CPU": config.num_cpus} | ({"GPU": config.num_gpus} if config.num_gpus else {}),
            ),
            run_config=RunConfig(name="ray-train", storage_path=str(folder), failure_config=FailureConfig(max_failures=1)),
        )
        num_steps = config.epochs * -(-rows_in // config.batch_size)
        try:
            with run.terminal.stage(self.name, done=len(read_log(folder)), total=num_steps) as progress, _Following(folder, progress):
                trainer.fit()
        except (RayError, RuntimeError) as error:
            if failure.is_file():
                raise SetupFailed(f"stage {self.name} can't start: {json.loads(failure.read_text())['message']}") from error
            raise StageFailed(f"stage {self.name} stopped: {error}; run the same command again to resume") from error
        return self._record(run, plan, rows_in)

    def _record(self, run: Run, plan: Mapping[str, Any], rows_in: int) -> StageSummary:
        """The training log as the stage's dataset, its totals as the stage's record."""
        folder = local_path(run.folder / self.name)
        log = read_log(folder)
        seconds = sum(row["seconds"] for row in log)
        now = time.time()
        too_long = json.loads((folder / TOO_LONG).read_text())
        rejects = [RejectedRow(id=name, reason="too long", detail="more tokens than max_length") for name in too_long]
        keys = [f"in-{index}" for index in range(rows_in)]
        account = PartAccount(
            keys=keys,
            rows_per_key=[len(log)] + [0] * (rows_in - 1),
            rejected=dict.fromkeys(keys[rows_in - len(too_long) :], "too long"),
            tokens=sum(row["tokens"] for row in log),
            session="train",
            began=now - seconds,
            committed=now,
            versions=versions(),
        )
        parts.write_part(run.folder, self.name, log, TrainStep.schema(), account, rejects)
        for row in log:
            run.tracker.metrics({f"{self.name}/loss": row["loss"], f"{self.name}/learning_rate": row["learning_rate"]}, step=row["step"])
        return finish(self.name, TrainStep.schema(), run, plan, rows_in)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The steps of the training log; after a resume a step's last entry counts. A line that is not whole yet is left out."""
    steps: dict[int, dict[str, Any]] = {}
    file = folder / LOG
    for line in file.read_text().splitlines(keepends=True) if file.is_file() else ():
        if line.endswith("\n"):
            row = json.loads(line)
            steps[row["step"]] = row
    return [steps[step] for step in sorted(steps)]


class _Following:
    """Shows the training log's new lines as progress, as long as it is entered."""

    def __init__(self, folder: Path, progress: StageProgress) -> None:
        self._folder, self._progress = folder, progress
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="training log", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(POLL_S):
            for row in read_log(self._folder)[self._progress.done :]:
                self._progress.advance(tokens=row["tokens"], detail=f"loss {row['loss']:.4f}")


def _train_in_worker(settings: dict[str, Any]) -> None:
    """Runs in every Ray Train worker."""
    import os

    import ray.train
    import ray.train.torch

    rank = ray.train.get_context().get_world_rank()
    config = TrainConfig(**settings["config"])
    folder = Path(settings["folder"])
    if config.num_gpus == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    rows: Sequence[dict[str, Any]] = list(ray.train.get_dataset_shard("train").iter_rows())
    conversations = sorted((Conversation.of(row) for row in rows), key=lambda conversation: conversation.id)
    device = ray.train.torch.get_device()
    try:
        with without_collection():
            from actors.training.trainer import Trainer

        trainer = Trainer(config, conversations, device=device)
    except Exception as error:
        if rank == 0:
            (folder / SETUP_ERROR).write_text(json.dumps({"message": f"{type(error).__name__}: {error}"}))
        raise
    if rank == 0:
        (folder / TOO_LONG).write_text(json.dumps(trainer.too_long))
    if trainer.load_checkpoint(folder / "checkpoints") and rank == 0:
        print(f"resuming from step {trainer.step} of {len(trainer.batches)}", flush=True)
    began = time.monotonic()
    with (folder / LOG).open("a") as log:
        for step in trainer.train():
            now = time.monotonic()
            if rank == 0:
                entry = {**step, "step": int(step["step"]), "tokens": int(step["tokens"]), "seconds": now - began}
                log.write(json.dumps(entry) + "\n")
                log.flush()
            began = now
            if trainer.step % config.checkpoint_every_steps == 0 or trainer.step == len(trainer.batches):
                trainer.save_checkpoint(folder / "checkpoints")
    trainer.export(folder / EXPORT)
    ray.train.report({"step": trainer.step})
