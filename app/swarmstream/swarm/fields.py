"""Field types that payloads share, with the base class of payloads.

Optional fields accept `null` as "not given", numbers and booleans also as strings; unknown fields are kept aside to be
named in `warnings` (docs/wire.md, section 2).
"""

import unicodedata
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

MAX_LOOPS = 1_000_000
MAX_TOKENS = 1_000_000_000
MAX_SECONDS = 1_000_000_000
"""Thirty years."""


def without_controls(name: str) -> str:
    """Return the name. Raises `ValueError` if it has control characters or line separators."""
    if any(unicodedata.category(char) in {"Cc", "Zl", "Zp"} for char in name):
        raise ValueError("must not contain control characters or line separators")
    return name


def _number(value: Any) -> Any:
    """Refuse booleans, which pydantic's lax numbers take for 0 and 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 - pydantic wants one
    return value


Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
    AfterValidator(without_controls),
]
OptionalName = Annotated[str, StringConstraints(max_length=100), AfterValidator(without_controls)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(without_controls)]
Flag = Annotated[bool, Field(strict=False)]
"""A boolean, or a value that pydantic's lax mode takes for one, as FastAPI does: "true", "yes", 1, …"""
WholeNumber = Annotated[int, BeforeValidator(_number), Field(strict=False)]
"""An integer, also as a string: programs read numbers from forms and from the environment."""
Number = Annotated[float, BeforeValidator(_number), Field(strict=False, allow_inf_nan=False)]
Seconds = Annotated[Number, Field(gt=0, le=MAX_SECONDS)]
Loops = Annotated[WholeNumber, Field(ge=1, le=MAX_LOOPS)]
Tokens = Annotated[WholeNumber, Field(ge=1, le=MAX_TOKENS)]


ItemT = TypeVar("ItemT")
Items = Annotated[list[ItemT], Field(fail_fast=True)]
"""A list whose validation ends at the first wrong item: a body holds half a million, each an error otherwise."""


class Payload(BaseModel):
    """Base of everything a client posts: strict types, nulls dropped, unknown fields remembered."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if item is not None}  # pyright: ignore[reportUnknownVariableType]
