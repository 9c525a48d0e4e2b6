"""What every group of settings is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_serializer

PositiveInt = Annotated[int, Field(gt=0, lt=1 << 31)]  # whole numbers that the arithmetic behind them holds
NonNegativeInt = Annotated[int, Field(ge=0, lt=1 << 31)]
Pixels = Annotated[int, Field(ge=0, lt=1 << 16)]
Width = Annotated[int, Field(gt=0, le=1 << 14)]  # of a layer


class Settings(BaseModel):
    """Base of every group of settings: frozen, without unknown names or numbers that are not finite.

    Attributes:
        added: names that came after the first version. They are written only where they are used, so that whoever does
            not know them reads all other files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    added: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _write(self, write: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        written = write(self)
        for name in self.added:
            if getattr(self, name) == type(self).model_fields[name].default:
                written.pop(name, None)
        return written
