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
from actors.storage import Folder
from actors.training.config import TrainConfig
from actors.training.mirror import Mirror
from cluster.plan import Demand
from genprm.records import Conversation, Record
from workflows.config import Config
from workflows.stage import parts
from workflows.stage.errors import SetupFailed, StageFailed
from workflows.stage.ledger import Ledger, Usage
from workflows.stage.links import dataset
from workflows.stage.metrics import StageMetrics
from workflows.stage.parts import RejectedRow
from workflows.stage.progress import StageProgress
from workflows.stage.record import finish
from workflows.stage.run import Run
from workflows.stage.stage import Stage
from workflows.stage.summary import StageSummary
from workflows.stage.usage import held
from workflows.stage.versions import versions

EXPORT = "export"
LOG = "log.jsonl"
REJECTS = "_rejects.json"
SETUP_ERROR = "_setup_error.json"
CHECKPOINTS = "checkpoints"
POLL_S = 0.5
REMOTE_POLL_S = 10.0


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


def export_folder(run: Folder, name: str) -> Folder:
    """Where the trained model is, in Hugging Face format."""
    return dataset(run, f"train/{name}") / EXPORT


@dataclass(frozen=True, kw_only=True)
class TrainStage(Stage):
    """Fine-tunes a model on a set of conversations; resumes from the newest checkpoint. Its dataset is the training log."""

    settings: TrainConfig

    @property
    def demands(self) -> Sequence[Demand]:
        return [Demand(cpus=self.settings.num_cpus, gpus=self.settings.num_gpus)] * self.settings.num_workers

    def clear(self, run: Run) -> None:
        super().clear(run)
        for name in (CHECKPOINTS, EXPORT, "ray-train"):
            (run.folder / self.name).delete_folder(name)
        (run.folder / self.name).delete(LOG)

    def make(self, run: Run, plan: Mapping[str, Any]) -> StageSummary:
        config, folder = self.settings, run.folder / self.name
        rows_in = int(parts.read_record(run.folder, self.reads[0])["rows_out"])
        if rows_in == 0:
            raise StageFailed(f"{self.reads[0]} has no rows: nothing to train on; look at its rejects for why")
        folder.delete(SETUP_ERROR)
        trainer = _Trainer(
            _train_in_worker,
            train_loop_config={"config": config.model_dump(), "folder": folder},
            datasets={"train": ray.data.read_parquet(parts.paths(run.folder, self.reads[0])).materialize()},
            dataset_config=DataConfig(datasets_to_split=[]),
            torch_config=TorchConfig(backend="nccl" if config.num_gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=config.num_workers,
                use_gpu=config.num_gpus > 0,
                resources_per_worker={"CPU": config.num_cpus} | ({"GPU": config.num_gpus} if config.num_gpus else {}),
            ),
            run_config=RunConfig(name="ray-train", storage_path=folder.uri, failure_config=FailureConfig(max_failures=1)),
        )
        num_steps = config.epochs * -(-rows_in // config.batch_size)
        earlier_s = sum(row["seconds"] for row in read_log(folder))
        began = time.monotonic()
        try:
            metrics = StageMetrics(run.folder.uri, self.name)
            with (
                run.terminal.stage(self.name, done=len(read_log(folder)), total=num_steps) as progress,
                _Following(folder, progress, metrics),
            ):
                trainer.fit()
        except (RayError, RuntimeError) as error:
            if folder.exists(SETUP_ERROR):
                raise SetupFailed(f"stage {self.name} can't start: {folder.read_json(SETUP_ERROR)['message']}") from error
            raise StageFailed(f"stage {self.name} stopped: {error}; run the same command again to resume") from error
        finally:
            used = held(self.demands, time.monotonic() - began)
            run.budget.spend(used.gpu_s)
        return self._record(run, plan, rows_in, used + held(self.demands, earlier_s))

    def _record(self, run: Run, plan: Mapping[str, Any], rows_in: int, used: Usage) -> StageSummary:
        """The training log as the stage's dataset, its totals as the stage's record."""
        folder = run.folder / self.name
        log = read_log(folder)
        seconds = sum(row["seconds"] for row in log)
        now = time.time()
        found = folder.read_json(REJECTS)
        rejects = [RejectedRow(id=name, reason=reason, detail="see train.max_length and loss_spans") for name, reason in found.items()]
        facts = {"tokens": sum(row["tokens"] for row in log), "session": "train", "began": now - seconds, "committed": now}
        super().clear(run)
        ledger = Ledger(run.folder / self.name)
        ledger.commit(
            parts.write_part(
                run.folder / self.name, log, TrainStep.schema(), rows_in=rows_in, rejects=rejects, versions=versions(), **facts
            )
        )
        ledger.use(used)
        ledger.close()
        for row in log:
            run.tracker.metrics({f"{self.name}/loss": row["loss"], f"{self.name}/learning_rate": row["learning_rate"]}, step=row["step"])
        return finish(self.name, TrainStep.schema(), run, plan, rows_in, ledger)


def read_log(folder: Folder) -> list[dict[str, Any]]:
    """The steps of the training log; after a resume a step's last entry counts. A line that is not whole yet is left out."""
    steps: dict[int, dict[str, Any]] = {}
    for line in (folder.read_bytes_if_there(LOG) or b"").decode().splitlines(keepends=True):
        if line.endswith("\n"):
            row = json.loads(line)
            steps[row["step"]] = row
    return [steps[step] for step in sorted(steps)]


def cut_unfinished_line(file: Path) -> None:
    """Take away what a process that was killed left of a line; else the next one would be written behind it."""
    if file.exists():
        data = file.read_bytes()
        if not data.endswith(b"\n"):
            file.write_bytes(data[: data.rfind(b"\n") + 1])


class _Following:
    """Shows the training log's new lines as progress and as metrics, as long as it is entered."""

    def __init__(self, folder: Folder, progress: StageProgress, metrics: StageMetrics) -> None:
        self._folder, self._progress, self._metrics = folder, progress, metrics
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="training log", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(POLL_S if self._folder.is_local else REMOTE_POLL_S):
            for row in read_log(self._folder)[self._progress.done :]:
                self._progress.advance(tokens=row["tokens"], detail=f"loss {row['loss']:.4f}")
                self._metrics.spend_tokens(row["tokens"])
                shown = {"train_loss": row["loss"], "train_learning_rate": row["learning_rate"], "train_step_seconds": row["seconds"]}
                self._metrics.show({**shown, "rows_left": self._progress.num_left})


def _train_in_worker(settings: dict[str, Any]) -> None:
    """Runs in every Ray Train worker."""
    import os

    import ray.train
    import ray.train.torch
    import torch.distributed as dist

    context = ray.train.get_context()
    rank = context.get_world_rank()
    config = TrainConfig(**settings["config"])
    folder: Folder = settings["folder"]
    mirror = Mirror(folder, copies=context.get_local_rank() == 0)
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
            folder.write_json(SETUP_ERROR, {"message": f"{type(error).__name__}: {error}"})
        raise
    if rank == 0:
        folder.write_json(REJECTS, trainer.rejects)
    mirror.fetch(CHECKPOINTS, LOG)
    dist.barrier()
    if trainer.load_checkpoint(mirror.local / CHECKPOINTS) and rank == 0:
        print(f"resuming from step {trainer.step} of {len(trainer.batches)}", flush=True)
    began = pushed = time.monotonic()
    if rank == 0:
        cut_unfinished_line(mirror.local / LOG)
    with (mirror.local / LOG).open("a") as log:
        for step in trainer.train():
            now = time.monotonic()
            if rank == 0:
                entry = {**step, "step": int(step["step"]), "tokens": int(step["tokens"]), "seconds": now - began}
                log.write(json.dumps(entry) + "\n")
                log.flush()
                if now - pushed > REMOTE_POLL_S:
                    mirror.push(LOG)
                    pushed = now
            began = now
            if trainer.step % config.checkpoint_every_steps == 0 or trainer.step == len(trainer.batches):
                trainer.save_checkpoint(mirror.local / CHECKPOINTS)
                dist.barrier()
                mirror.push_checkpoint(CHECKPOINTS, trainer.tag)
                dist.barrier()
                if rank == 0:
                    mirror.push_latest(CHECKPOINTS, LOG)
    trainer.export(mirror.local / EXPORT)
    if rank == 0:
        mirror.push(EXPORT)
    dist.barrier()
    ray.train.report({"step": trainer.step})
