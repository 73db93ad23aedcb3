"""Connecting to Ray: a cluster if one is named, else a local instance that ends with the job."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from pydantic import Field

from genprm.errors import UserError
from genprm.section import Section

QUIET = {"PYTHONWARNINGS": "ignore", "TQDM_DISABLE": "1"}
"""A local Ray's workers inherit this from the driver, so that a job's output is its own."""


class RayConfig(Section):
    """``address`` of a cluster (``RAY_ADDRESS``, which ``ray job submit`` sets, serves as well); None: start a local Ray.

    ``num_cpus`` is what a local Ray counts on (None: the machine's cores).
    """

    address: str | None = None
    num_cpus: int | None = Field(default=None, ge=1)
    dashboard: bool = True


def connect(config: RayConfig) -> list[str]:
    """Connect once; gives lines that say where Ray and its dashboard are. ValueError if a named cluster can't be reached."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    import ray.data  # its logger exists from here on

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the job shows its own
    # The second reader lists files and reads footers in tasks of their own, for which Ray starts a dozen processes: 12 s for
    # a stage of 60 rows on 2 cores, against 3 s.
    context.use_datasource_v2 = False
    # Rows that engines work on for long keep Ray Data waiting; after 30 minutes without a new one it would end the stage.
    context.execution_no_progress_timeout_s = -1
    address = config.address or os.environ.get("RAY_ADDRESS")
    try:
        if address:
            client = ray.init(address=address, logging_level=logging.WARNING)
        else:
            client = ray.init(
                address="local",  # not one that happens to run on this machine
                num_cpus=config.num_cpus,
                include_dashboard=config.dashboard,
                logging_level=logging.WARNING,
                configure_logging=True,
            )
    except ConnectionError as error:
        raise UserError(f"ray.address = {address!r}: can't be reached ({error}); is the cluster up, and RAY_AUTH_MODE set?") from error
    where = client.dashboard_url
    lines = [f"ray: {'cluster ' + address if address else 'local'}" + (f", dashboard at http://{where}" if where else "")]
    if where and not address and os.environ.get("RAY_AUTH_MODE") == "token":
        ray_command = os.path.relpath(Path(sys.executable).with_name("ray"))
        lines.append(f"the dashboard asks for a token, which `{ray_command} get-auth-token` prints")
    return lines


def disconnect() -> None:
    import ray

    ray.shutdown()
