"""Everything an operator may set: environment variables that begin with `SWARMSTREAM_`."""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from swarmstream.spelling import closest_name

ENV_PREFIX = "SWARMSTREAM_"
MIN_KEY_LENGTH = 16
"""Characters of a key with which clients call from elsewhere."""


def _comma_separated(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _origin(text: str) -> str:
    """An origin as browsers write it (RFC 6454, section 6.2), or `*`."""
    origin = text.rstrip("/").lower()
    if origin != "*" and not _ORIGIN.fullmatch(origin):
        raise ValueError("an origin is a scheme and a host, such as https://app.example, or * for all")
    return origin


def _without_space(key: SecretStr) -> SecretStr:
    """A key as its header's value can be: the white space around that is no part of it (RFC 9110, section 5.5)."""
    return SecretStr(key.get_secret_value().strip())


Key = Annotated[SecretStr, AfterValidator(_without_space)]

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+")
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SecondsOrNone = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Backend = Literal["direct", "litellm"]


class Settings(BaseSettings):
    """The server's settings; each field's description is what docs/operations.md says of it."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, hide_input_in_errors=True)

    api_keys: Annotated[tuple[Key, ...], NoDecode, BeforeValidator(_comma_separated)] = Field(
        (),
        description="Comma-separated keys that clients may use, each of at least 16 characters unless `HOST` is a "
        "loopback address. Without one the server starts only with `--dev`.",
    )
    host: str = Field("127.0.0.1", description="The address to listen on; `0.0.0.0` for all of them.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8000, description="The port to listen on; 0 lets the system choose."
    )
    default_model: str = Field("gpt-6-luna", description="The model of agents that name none.")
    lane: Backend | Literal["auto"] = Field(
        "auto",
        description="Which way to models: `direct`, `litellm`, or `auto`, which is `direct` wherever that can be.",
    )
    data_dir: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = Field(
        Path(".swarmstream"),
        description="Where runs are written down; one server a directory. Empty: in memory, where a restart ends them.",
    )
    durability: Literal["process", "host"] = Field(
        "process",
        description="What the end of a run, an idempotency key and a recovery outlive once a client is told of them: "
        "a crash of the `process`, or of the `host` (power loss), which costs a disk flush each.",
    )
    models_file: Path | None = Field(None, description="A TOML file of model aliases.")
    model_aliases: dict[str, str] = Field(
        {}, description='Model aliases in short: a JSON object such as `{"claude-*": "openai/my-model"}`.'
    )
    tools: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)] = Field(
        (), description="Comma-separated Python functions that agents may call, as `package.module:function`."
    )
    tool_keys: dict[str, tuple[Key, ...]] = Field(
        {}, description='Who may use a tool that is not for every key: a JSON object such as `{"refund": ["key-1"]}`.'
    )
    mcp_allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)] = Field(
        (),
        description="Comma-separated MCP servers that agents may use: `host`, `host:port`, an address or a network, "
        "`*.example.com`, `*` for all public ones.",
    )
    heartbeat_seconds: Seconds = Field(15.0, description="Silence after which a stream gets a comment line.")
    disconnect_grace_seconds: SecondsOrNone = Field(
        10.0, description="How long a run waits for a reader to come back before it is cancelled."
    )
    drain_seconds: SecondsOrNone = Field(20.0, description="How long runs may go on after SIGTERM.")
    first_token_seconds: Seconds = Field(60.0, description="How long a model may take to begin.")
    idle_seconds: Seconds = Field(60.0, description="How long a model may fall silent between tokens.")
    turn_seconds: Seconds = Field(600.0, description="How long one agent's turn may take, retries included.")
    run_seconds: Seconds = Field(3600.0, description="How long a run may take.")
    retain_seconds: SecondsOrNone = Field(604_800.0, description="How long a finished run can be read again.")
    retain_bytes: Annotated[int, Field(ge=0)] = Field(
        1024 * 1024 * 1024,
        description="How much finished runs may take, of the disk or of the memory; the oldest of the key that has "
        "most go first.",
    )
    expire: bool = Field(
        False,
        description="Whether a start deletes runs for their age also where that is every finished run that there is: "
        "after a long stop, if the clock is right.",
    )
    send_seconds: Seconds = Field(
        30.0, description="How long a client may take nothing of its answer before it is let go; a reader may resume."
    )
    head_seconds: Seconds = Field(
        15.0, description="How long a request's head may take to arrive, and a new connection may send nothing."
    )
    keep_alive_seconds: Count = Field(75, description="How long a connection is kept open between two requests.")
    max_head_bytes: Annotated[int, Field(ge=1024)] = Field(
        65_536, description="The largest head of a request: its line and its header fields, of which there may be 100."
    )
    max_body_bytes: Count = Field(20 * 1024 * 1024, description="The largest request body, images included.")
    max_payload_bytes: Count = Field(1024 * 1024, description="The same without its images.")
    body_seconds: Seconds = Field(
        15.0, description="How long 64 kB of a request body may take to arrive; all of it, eight times that."
    )
    max_agents: Count = Field(64, description="Agents in one request, those to hand off to included.")
    max_stages: Count = Field(256, description="Stages in one flow.")
    max_turns: Count = Field(1000, description="Turns of one run: agents × loops × tasks.")
    max_calls: Count = Field(2000, description="Model calls of one run, retries included.")
    max_prompt_bytes: Count = Field(
        256 * 1024 * 1024,
        description="Prompts on their way to models at once; one key may have a quarter. More waits, or gets 503.",
    )
    max_runs: Count = Field(
        1000,
        description="Runs at once; the next one is refused with 503. With two keys or more, the last quarter is for "
        "those that hold less than a quarter.",
    )
    cors_origins: Annotated[
        tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_comma_separated)
    ] = Field(
        (),
        description="Comma-separated origins of web pages that may call this server; `*` for all. With `--dev`, those "
        "that this machine serves may, too.",
    )
    docs: bool = Field(True, description="Whether `/docs` and `/openapi.json` are served.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="What is worth logging.")
    log_format: Literal["text", "json"] = Field("text", description="How log lines are written.")

    @property
    def listens_on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def short_keys(self) -> int:
        """How many of the keys have fewer than `MIN_KEY_LENGTH` characters: those could be found by trying."""
        return sum(len(key.get_secret_value()) < MIN_KEY_LENGTH for key in self.api_keys)


KEY_VARIABLE = f"{ENV_PREFIX}KEY"
"""No setting of a server: the key with which the command line asks one."""
API_KEYS_VARIABLE = f"{ENV_PREFIX}API_KEYS"
API_KEYS_FILE_VARIABLE = f"{API_KEYS_VARIABLE}_FILE"
"""Read before the settings are: a file that holds the keys."""


_ABBREVIATED = {
    "KEYS": "API_KEYS",
    "MODEL": "DEFAULT_MODEL",
    "ALIASES": "MODEL_ALIASES",
    "MODELS": "MODELS_FILE",
    "CORS": "CORS_ORIGINS",
    "ORIGINS": "CORS_ORIGINS",
    "CORS_ALLOWED_ORIGINS": "CORS_ORIGINS",
    "MCP_HOSTS": "MCP_ALLOWED_HOSTS",
    "ALLOWED_HOSTS": "MCP_ALLOWED_HOSTS",
    "DATA": "DATA_DIR",
}
"""What a setting may be called by who does not look it up."""


def _names() -> set[str]:
    return {KEY_VARIABLE, API_KEYS_FILE_VARIABLE, *(f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields)}


def unknown_settings(names: Iterable[str]) -> set[str]:
    """The variables that look like ours and are not: most of them misspelt."""
    known = _names()
    return {name for name in names if name.upper().startswith(ENV_PREFIX) and name.upper() not in known}


def misspelt_settings(names: Iterable[str]) -> list[str]:
    """A sentence for each variable that looks like ours and is not, with the one that may be meant."""
    known = _names()
    sentences: list[str] = []
    for name in sorted(unknown_settings(names)):
        bare = name[len(ENV_PREFIX) :].upper()
        likely = _ABBREVIATED.get(bare) or closest_name(
            bare, [other.removeprefix(ENV_PREFIX) for other in sorted(known)]
        )
        hint = f"; did you mean {ENV_PREFIX}{likely}?" if likely else ""
        sentences.append(f"{name} is not a setting of this version{hint}")
    return sentences
