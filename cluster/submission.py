"""What differs under ``ray job submit``: the working directory goes with the job, and the job's environment is shown to everyone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from genprm.errors import UserError

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets this variable for a submitted job, to its configuration."""
CREDENTIAL = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(?:_|$)", re.IGNORECASE)


def is_submitted(environment: Mapping[str, str]) -> bool:
    return bool(environment.get(JOB))


def check_environment(environment: Mapping[str, str]) -> None:
    """UserError for credentials in the job's ``runtime_env``, which the dashboard and ``ray job list`` show in clear."""
    try:
        runtime_env = json.loads(environment.get(JOB) or "{}").get("runtime_env", {})
    except (ValueError, AttributeError):  # Ray's own, in a form that is not known here
        return
    given = runtime_env.get("env_vars") if isinstance(runtime_env, dict) else None
    found = sorted(name for name in given or {} if CREDENTIAL.search(name))
    if found:
        raise UserError(
            f"{', '.join(found)} came with the job's runtime_env, which the dashboard and `ray job list` show to everyone: set it in the "
            "environment of the nodes instead (a Kubernetes Secret, an instance role), and take it for known by now"
        )


def check_place(place: str, option: str, environment: Mapping[str, str]) -> None:
    """UserError for a path in a submitted job's working directory, which is deleted after it, and which each node has for itself."""
    if is_submitted(environment) and "://" not in place and not place.startswith("/"):
        raise UserError(
            f"{option} = {place!r}: a submitted job's working directory goes with the job; give an absolute path that all nodes see, or "
            "s3://bucket/folder"
        )
