"""The base of every configuration section: frozen, strict about names, light to import."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Unknown names and wrong types are errors; values are checked once, here, with no network and no file access."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
