"""MLflow, from the driver only: one run a job, a nested run a stage.

A tracking server that is down never stops a job: there is one warning, and the local records stay complete.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from actors.storage import Folder
from genprm.section import Section
from workflows.stage.summary import StageSummary


class TrackingConfig(Section):
    """``uri`` is any MLflow tracking URI; ``off`` tracks nothing. None: a SQLite file, ``mlflow.db``, beside the run directory; for a run
    in an object store nothing."""

    uri: str | None = None
    experiment: str = "genprm"

    def uri_for(self, run: Folder) -> str:
        """Where a run is tracked."""
        if self.uri is not None:
            return self.uri
        return f"sqlite:///{Path(run.uri).absolute().parent / 'mlflow.db'}" if run.is_local else "off"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """``{"a": {"b": 1}}`` as ``{"a.b": "1"}``, which is how MLflow wants parameters."""
    flat: dict[str, str] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = str(value)[:500]
    return flat


class Tracker:
    """Logs to MLflow as long as that works; every method is safe to call always."""

    def __init__(
        self,
        config: TrackingConfig,
        *,
        job: str,
        run: Folder,
        resolved: Mapping[str, Any],
        warn: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    ) -> None:
        self._uri, self._experiment = config.uri_for(run), config.experiment
        self._warn = warn
        self._mlflow: Any = None
        self._run_id = ""
        self._run = run
        if self._uri != "off":
            self._try(lambda: self._begin(job, resolved))

    def _begin(self, job: str, resolved: Mapping[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        artifacts = None
        if self._uri.startswith("sqlite:///"):
            database = Path(self._uri.removeprefix("sqlite:///")).absolute()
            database.parent.mkdir(parents=True, exist_ok=True)
            artifacts = database.with_name(f"{database.stem}-artifacts").as_uri()  # else they go to the working directory
        import mlflow

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        mlflow.set_tracking_uri(self._uri)
        if mlflow.get_experiment_by_name(self._experiment) is None:
            mlflow.create_experiment(self._experiment, artifact_location=artifacts)
        mlflow.set_experiment(self._experiment)
        name = f"{job} {self._run.uri.rsplit('/', 1)[-1]}"
        self._run_id = mlflow.start_run(run_name=name, tags={"run_dir": self._run.uri}).info.run_id
        self._mlflow = mlflow
        mlflow.log_params(flatten(resolved))
        mlflow.log_dict(dict(resolved), "config.json")

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever a tracking server does must not end a run
            self._warn(
                f"tracking: {self._uri} does not work ({type(error).__name__}: {str(error)[:200]}); the job continues without "
                "it, its records stay in the run directory"
            )
            self._mlflow = None

    def stage(self, summary: StageSummary, record: Mapping[str, Any]) -> None:
        """A nested run for a finished stage: its counts and rates, its record as an artifact."""
        if self._mlflow is not None:
            self._try(lambda: self._log_stage(summary, record))

    def _log_stage(self, summary: StageSummary, record: Mapping[str, Any]) -> None:
        with self._mlflow.start_run(run_name=summary.stage, nested=True, parent_run_id=self._run_id):  # stages run in threads of their own
            metrics: dict[str, float] = {
                f"{summary.stage}/rows_in": summary.rows_in,
                f"{summary.stage}/rows_out": summary.rows_out,
                f"{summary.stage}/rejects": sum(summary.rejects.values()),
                f"{summary.stage}/tokens": summary.tokens,
                f"{summary.stage}/seconds": summary.seconds,
                f"{summary.stage}/tokens_per_s": summary.tokens_per_s,
                f"{summary.stage}/cpu_seconds": summary.cpu_seconds,
                f"{summary.stage}/gpu_seconds": summary.gpu_seconds,
                f"{summary.stage}/failures": sum(summary.failures.values()),
                f"{summary.stage}/rows_repeated": summary.rows_repeated,
                f"{summary.stage}/tokens_repeated": summary.tokens_repeated,
            }
            self._mlflow.log_metrics(metrics)
            self._mlflow.log_params(flatten({"config": record.get("config", {})}))
            self._mlflow.log_dict(dict(record), "stage.json")

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        if self._mlflow is not None and values:
            self._try(lambda: self._mlflow.log_metrics(dict(values), step=step, run_id=self._run_id))

    def results(self, results: Mapping[str, Any]) -> None:
        if self._mlflow is not None:
            self._try(lambda: self._mlflow.log_dict(dict(results), "results.json", run_id=self._run_id))

    def close(self, *, failed: bool = False) -> None:
        if self._mlflow is not None:
            self._try(lambda: self._mlflow.end_run(status="FAILED" if failed else "FINISHED"))
