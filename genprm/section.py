"""The base of every configuration section: frozen, strict about names, light to import; and what of it decides a result.

A field decides the results unless it says otherwise: a run directory is refused when such a field changes. There are two ways to say
otherwise, both as part of the field's type:

- ``num_workers: Placement[int] = 1``: where and how fast the work is done (workers, memory, addresses, intervals). It may change
  between one run of a job and the next.
- ``path: Annotated[str, IdentifiedBy(file_fingerprint)]``: what the value stands for decides, not the value itself. A file or model
  may be moved, but not be changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

from genprm.errors import UserError

T = TypeVar("T")


class _PlacementMark:
    """Marks a field that decides no result."""


Placement = Annotated[T, _PlacementMark()]


@dataclass(frozen=True)
class IdentifiedBy:
    """Marks a field by what its value stands for: ``of(value)`` is the identity, as plain values. None stays None."""

    of: Callable[[Any], Any]


class Section(BaseModel):
    """Unknown names and wrong types are errors; values are checked once, here, with no network and no file access.

    ``LIBRARIES`` are the packages whose version decides what is made with this section.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    LIBRARIES: ClassVar[tuple[str, ...]] = ()

    def identity(self) -> dict[str, Any]:
        """All fields that decide a result, as plain values; those of sections inside among them. May read the files that are named.

        ValueError with the field and its value if such a file is not there.
        """
        found: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            if any(isinstance(mark, _PlacementMark) for mark in field.metadata):
                continue
            value = getattr(self, name)
            by = next((mark for mark in field.metadata if isinstance(mark, IdentifiedBy)), None)
            if by is not None and value is not None:
                try:
                    value = by.of(value)
                except ValueError as error:
                    message = str(error)
                    raise UserError(message if message.startswith(f"{name} = ") else f"{name} = {value!r}: {message}") from error
            found[name] = _plain(value)
        return found

    def deciding_libraries(self) -> set[str]:
        """The packages whose versions decide a result, of this section and those inside."""
        found = set(self.LIBRARIES)
        for name in type(self).model_fields:
            found |= _libraries(getattr(self, name))
        return found


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return value.identity()
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return json.loads(json.dumps(value))


def _libraries(value: Any) -> set[str]:
    if isinstance(value, Section):
        return value.deciding_libraries()
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return set().union(*(_libraries(item) for item in value))
    return set()
