"""`swarmstream openapi`: the API's document."""

import json

import typer

from swarmstream.settings import Settings


def openapi() -> None:
    """Print the API's OpenAPI document."""
    # Imported here so that --help comes at once.
    from swarmstream.main import create_app

    typer.echo(json.dumps(create_app(Settings.model_construct()).openapi(), indent=2))
