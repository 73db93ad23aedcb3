"""Conversations to a checkpoint to a Hugging Face export: DeepSpeed under Ray Train."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayError
from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from actors.training.config import TrainConfig
from cluster import interrupts
from cluster.plan import Demand, shortfall
from genprm.records import Conversation, Record
from workflows.stage import parts
from workflows.identity import weights_fingerprint
from workflows.stage.parts import PartAccount, RejectedRow, StageSummary
from workflows.stage.running import SetupFailed
from workflows.stage.actor import SETUP_ERROR
from workflows.stage.record import StageFailed, announce_finished, check_plan, finish
from workflows.stage.folder import Folder
from workflows.stage.tracking import Tracker

STAGE = "train"
SAY_EVERY_S = 5.0
TOO_LONG = "_too_long.json"


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


def export_folder(run: Folder) -> Path:
    return local_path(run) / STAGE / "export"


def local_path(run: Folder) -> Path:
    if not run.is_local:
        raise ValueError(f"--run-dir = {run.uri!r}: training writes checkpoints through a file system; mount it and give its path")
    return Path(run.uri).absolute()


def train(run: Folder, config: TrainConfig, *, conversations: str, tracker: Tracker) -> StageSummary:
    """Fine-tune on a finished conversations stage; goes on from the newest checkpoint; a finished one is only reported."""
    interrupts.check()
    source = (run / conversations).read_json(parts.DONE)
    inputs = {conversations: source["contents"], "base_model": weights_fingerprint(config.base_model) or config.base_model}
    plan = {"config": json.loads(config.model_dump_json()), "inputs": inputs}
    folder = run / STAGE
    check_plan(folder, plan)
    if folder.exists(parts.DONE):
        return announce_finished(folder)
    if source["rows_out"] == 0:
        raise StageFailed(f"{conversations} has no rows: nothing to train on; look at its rejects for why")
    missing = shortfall(
        Demand(cpus=config.num_cpus, gpus=config.num_gpus).times(config.num_workers),
        ray.cluster_resources(),
        "lower train.num_workers, train.num_cpus or train.num_gpus, or raise ray.num_cpus",
    )
    if missing:
        raise SetupFailed(f"stage {STAGE} {missing}")
    failure = local_path(run) / STAGE / SETUP_ERROR
    failure.unlink(missing_ok=True)
    folder.write_json(parts.PLAN, plan)
    print(f"{STAGE}: {source['rows_out']} conversations, {config.epochs} epochs, {config.num_workers} workers", flush=True)
    files = [(run / conversations).path_of(name) for name in parts.part_names(run, conversations)]
    trainer = _Trainer(
        _train_in_worker,
        train_loop_config={"config": config.model_dump(), "folder": str(local_path(run) / STAGE)},
        datasets={"train": ray.data.read_parquet(files).materialize()},
        dataset_config=DataConfig(datasets_to_split=[]),
        torch_config=TorchConfig(backend="nccl" if config.num_gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=config.num_gpus > 0,
            resources_per_worker={"CPU": config.num_cpus} | ({"GPU": config.num_gpus} if config.num_gpus else {}),
        ),
        run_config=RunConfig(name="ray-train", storage_path=str(local_path(run) / STAGE), failure_config=FailureConfig(max_failures=1)),
    )
    try:
        trainer.fit()
    except (RayError, RuntimeError) as error:
        if failure.is_file():
            raise SetupFailed(f"stage {STAGE} can't start: {json.loads(failure.read_text())['message']}") from error
        raise StageFailed(f"stage {STAGE} stopped: {error}; run the same command again to go on") from error
    return _record(run, plan, int(source["rows_out"]), tracker)


def _record(run: Folder, plan: Mapping[str, Any], rows_in: int, tracker: Tracker) -> StageSummary:
    """The training log as the stage's dataset, its totals as the stage's record."""
    log = read_log(local_path(run) / STAGE)
    seconds = sum(row["seconds"] for row in log)
    now = time.time()
    too_long = json.loads((local_path(run) / STAGE / TOO_LONG).read_text())
    rejects = [RejectedRow(id=name, reason="too long", detail="more tokens than train.max_length") for name in too_long]
    keys = [f"in-{index}" for index in range(rows_in)]
    account = PartAccount(
        keys=keys,
        rows_per_key=[len(log)] + [0] * (rows_in - 1),
        rejected=dict.fromkeys(keys[rows_in - len(too_long) :], "too long"),
        tokens=sum(row["tokens"] for row in log),
        session="train",
        began=now - seconds,
        committed=now,
    )
    parts.write_part(run, STAGE, log, TrainStep.schema(), account, rejects)
    for row in log:
        tracker.metrics({"train/loss": row["loss"], "train/learning_rate": row["learning_rate"]}, step=row["step"])
    return finish(STAGE, TrainStep.schema(), run, plan, rows_in, tracker)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The steps of the training log; after a resume a step's last entry counts."""
    steps: dict[int, dict[str, Any]] = {}
    for line in (folder / "log.jsonl").read_text().splitlines():
        row = json.loads(line)
        steps[row["step"]] = row
    return [steps[step] for step in sorted(steps)]


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
        from actors.training.trainer import Trainer

        trainer = Trainer(config, conversations, device=device)
    except Exception as error:
        if rank == 0:
            (folder / SETUP_ERROR).write_text(json.dumps({"message": f"{type(error).__name__}: {error}"}))
        raise
    if rank == 0:
        (folder / TOO_LONG).write_text(json.dumps(trainer.too_long))
    if trainer.load_checkpoint(folder / "checkpoints") and rank == 0:
        print(f"{STAGE}: going on from step {trainer.step} of {len(trainer.batches)}", flush=True)
    began = said = time.monotonic()
    with (folder / "log.jsonl").open("a") as log:
        for step in trainer.train():
            now = time.monotonic()
            if rank == 0:
                entry = {**step, "step": int(step["step"]), "tokens": int(step["tokens"]), "seconds": now - began}
                log.write(json.dumps(entry) + "\n")
                log.flush()
                if now - said > SAY_EVERY_S:
                    said = now
                    print(f"{STAGE}: step {trainer.step}/{len(trainer.batches)}, loss {step['loss']:.4f}", flush=True)
            began = now
            if trainer.step % config.checkpoint_every_steps == 0 or trainer.step == len(trainer.batches):
                trainer.save_checkpoint(folder / "checkpoints")
    trainer.export(folder / "export")
    ray.train.report({"step": trainer.step})
