"""The operator's aliases: models, addresses and prices behind names of their own."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from swarmstream.errors import UnknownModel, quote
from swarmstream.llm.model_table import speaks_openai
from swarmstream.llm.provider_names import find_provider
from swarmstream.settings import BackendName, Settings

DEMO_PREFIX = "demo/"


def _callable(target: str) -> str:
    if not target.startswith(DEMO_PREFIX):
        try:
            find_provider(target, environ={})
        except UnknownModel as error:
            raise ValueError(error.detail) from None
    return target


class AliasPrice(BaseModel):
    """USD per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]
    cached_input: Annotated[float, Field(ge=0)] | None = None


class Alias(BaseModel):
    """The model behind a name, or behind a glob of names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, AfterValidator(_callable)]
    """litellm's name, or one of the demo model's."""
    api_base: str | None = None
    api_key_env: str | None = None
    """The variable that holds the key to send; with an `api_base` and without this, none is sent."""
    lane: BackendName | None = None
    """The backend, which wins over the setting."""
    price: AliasPrice | None = None

    @model_validator(mode="after")
    def _check_backend(self) -> Self:
        if self.lane != "direct" or self.model.startswith(DEMO_PREFIX):
            return self
        if not speaks_openai(self.model, find_provider(self.model, environ={})):
            raise ValueError(f"{quote(self.model)} can only be called through litellm, its lane cannot be direct")
        return self


class AliasError(Exception):
    """The operator's aliases cannot be used; the message names the setting."""


def load_aliases(settings: Settings) -> dict[str, Alias]:
    """Load the operator's aliases; the short form wins over the file.

    Raises:
        AliasError: as `read_aliases`, or an alias in the short form names no known model.
    """
    try:
        in_short = {name: Alias(model=model) for name, model in settings.model_aliases.items()}
    except ValidationError as error:
        raise AliasError(f"SWARMSTREAM_MODEL_ALIASES: {_problems(error)}") from error
    in_file = read_aliases(settings.models_file) if settings.models_file else {}
    return {**in_short, **{name: alias for name, alias in in_file.items() if name not in in_short}}


def read_aliases(path: Path) -> dict[str, Alias]:
    """Read the aliases of a TOML file: a table for each name or glob.

    Raises:
        AliasError: the file cannot be read, is not TOML, has an unknown field, or an alias names no known model.
    """
    at = f"SWARMSTREAM_MODELS_FILE: {path}"
    try:
        return TypeAdapter(dict[str, Alias]).validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise AliasError(f"{at}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AliasError(f"{at} is not TOML: {error}") from error
    except ValidationError as error:
        raise AliasError(f"{at}: {_problems(error)}") from error


def key_variables(aliases: Mapping[str, Alias]) -> set[str]:
    """Return the variables that aliases take keys from."""
    return {alias.api_key_env for alias in aliases.values() if alias.api_key_env}


def _problems(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
