"""Settings, aliases and secret files for commands, which refuse what cannot be used."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from swarmstream.cli.console import refuse
from swarmstream.llm.aliases import Alias, AliasError, load_aliases
from swarmstream.secret_files import SecretFileError, read_secret_files
from swarmstream.settings import ENV_PREFIX, Settings


def load_settings(**options: Any) -> Settings:
    """Read the settings from the environment; an option that is not None takes precedence."""
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except SettingsError as error:
        # A variable that should hold JSON does not. Its value may be a secret and is left out.
        refuse(f"These settings cannot be used: {error}")
    except ValidationError as error:
        problems = "\n".join(
            f"  {ENV_PREFIX}{str(found['loc'][0]).upper()}: {found['msg']}" for found in error.errors()
        )
        refuse(f"These settings cannot be used:\n{problems}")


def configured_aliases(settings: Settings) -> dict[str, Alias]:
    """Read the models' aliases that the settings name."""
    try:
        return load_aliases(settings)
    except AliasError as error:
        refuse(f"These aliases cannot be used: {error}")


def load_secret_files(variables: Iterable[str]) -> list[str]:
    """Set variables from the files that hold their values; return those whose file others can read."""
    try:
        return read_secret_files(os.environ, variables)
    except SecretFileError as error:
        refuse(f"{error}.")


def data_directory() -> Path:
    """Return the data directory of the settings."""
    folder = load_settings().data_dir
    if folder is None:
        refuse(f"{ENV_PREFIX}DATA_DIR is empty: there is no data directory.")
    return folder
