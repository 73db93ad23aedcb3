"""What an hour and a token cost, from a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import Field, ValidationError

from genprm.errors import UserError
from genprm.section import Section


class Prices(Section):
    """``gpu_hour`` of one GPU, ``cpu_hour`` of one core, in ``currency``; of an endpoint's tokens, by the million."""

    currency: str = "USD"
    gpu_hour: float = Field(default=0.0, ge=0)
    cpu_hour: float = Field(default=0.0, ge=0)
    million_prompt_tokens: float = Field(default=0.0, ge=0)
    million_completion_tokens: float = Field(default=0.0, ge=0)


def read_prices(path: str) -> Prices:
    """UserError if the file can't be read, or has what is no price."""
    try:
        return Prices(**tomllib.loads(Path(path).read_text()))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"--prices = {path!r} can't be read: {error}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        known = ", ".join(Prices.model_fields)
        raise UserError(f"--prices = {path!r}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}; it may have {known}") from error
