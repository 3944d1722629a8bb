"""Settings: their sources, their bounds, and that errors do not print their values."""

import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsError

from swarmstream.settings import ENV_PREFIX, Settings, unknown_settings


@pytest.fixture(autouse=True)
def environ() -> Iterator[MutableMapping[str, str]]:
    """Yield the process's environment without our settings; restore it afterwards."""
    before = dict(os.environ)
    for name in before:
        if name.upper().startswith(ENV_PREFIX):
            del os.environ[name]
    yield os.environ
    os.environ.clear()
    os.environ.update(before)


def made(**fields: Any) -> Settings:
    """Return the settings of the environment, except for these."""
    return Settings(**fields)


def invalid(**fields: Any) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        made(**fields)
    return caught.value


LISTS: list[tuple[str, list[str]]] = [
    ("", []),
    (" , ,", []),
    ("one", ["one"]),
    ("one,two", ["one", "two"]),
    (" one ,\ttwo,, ", ["one", "two"]),
    ('["one"]', ['["one"]']),
]


@pytest.mark.parametrize(("text", "parts"), LISTS)
def test_lists_are_separated_by_commas(environ: MutableMapping[str, str], text: str, parts: list[str]) -> None:
    environ["SWARMSTREAM_API_KEYS"] = environ["SWARMSTREAM_MCP_ALLOWED_HOSTS"] = text
    settings = made()
    assert [key.get_secret_value() for key in settings.api_keys] == parts
    assert list(settings.mcp_allowed_hosts) == parts


def test_origins_are_as_browsers_write_them(environ: MutableMapping[str, str]) -> None:
    environ["SWARMSTREAM_CORS_ORIGINS"] = "https://App.example/, http://localhost:5173, *"
    assert made().cors_origins == ("https://app.example", "http://localhost:5173", "*")
    for wrong in ("app.example", "https://", "https://app.example/page", "https://me@app.example"):
        environ["SWARMSTREAM_CORS_ORIGINS"] = wrong
        with pytest.raises(ValidationError, match="an origin is a scheme and a host"):
            made()


def test_lists_may_be_given_as_such_in_code() -> None:
    settings = made(api_keys=(SecretStr("a,b"),), cors_origins=("https://a.example",))
    assert [key.get_secret_value() for key in settings.api_keys] == ["a,b"]
    assert settings.cors_origins == ("https://a.example",)


def test_variables_are_read_by_their_prefix_in_either_case(environ: MutableMapping[str, str]) -> None:
    environ["SWARMSTREAM_PORT"] = "1234"
    environ["swarmstream_host"] = "0.0.0.0"
    environ["MAX_RUNS"] = "7"
    environ["SWARMSTREAM_DOCS"] = "false"
    environ["SWARMSTREAM_MODELS_FILE"] = "/etc/models.toml"
    environ["SWARMSTREAM_MODEL_ALIASES"] = '{"claude-*": "openai/mine"}'
    settings = made()
    assert (settings.port, settings.host, settings.max_runs) == (1234, "0.0.0.0", 1000)
    assert settings.docs is False
    assert settings.models_file == Path("/etc/models.toml")
    assert settings.model_aliases == {"claude-*": "openai/mine"}


def test_values_given_in_code_win_over_the_environment(environ: MutableMapping[str, str]) -> None:
    environ["SWARMSTREAM_PORT"] = "1234"
    assert made(port=5678).port == 5678


def test_without_anything_set_the_server_is_private() -> None:
    settings = made()
    assert settings.host == "127.0.0.1"
    assert settings.api_keys == ()
    assert settings.cors_origins == ()


def test_every_default_is_within_its_bounds_and_every_setting_has_a_description() -> None:
    Settings.model_validate(made().model_dump())
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        made().port = 1


ABOVE_ZERO = [
    "heartbeat_seconds",
    "first_token_seconds",
    "idle_seconds",
    "turn_seconds",
    "run_seconds",
    "body_seconds",
]
FROM_ZERO = ["disconnect_grace_seconds", "drain_seconds", "retain_seconds"]
COUNTS = ["max_body_bytes", "max_agents", "max_stages", "max_turns", "max_runs"]


@pytest.mark.parametrize("name", [*ABOVE_ZERO, *FROM_ZERO])
@pytest.mark.parametrize("value", [-1, -0.001, "inf", "nan", "soon", None])
def test_seconds_are_finite_and_not_negative(name: str, value: Any) -> None:
    assert [error["loc"] for error in invalid(**{name: value}).errors()] == [(name,)]


@pytest.mark.parametrize("name", ABOVE_ZERO)
def test_required_seconds_are_above_zero(name: str) -> None:
    assert [error["loc"] for error in invalid(**{name: 0}).errors()] == [(name,)]
    assert getattr(made(**{name: "0.001"}), name) == 0.001


@pytest.mark.parametrize("name", [*FROM_ZERO, "retain_bytes"])
def test_optional_seconds_may_be_zero(name: str) -> None:
    assert getattr(made(**{name: "0"}), name) == 0


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [0, -1, 1.5, "many", None])
def test_counts_are_whole_and_at_least_one(name: str, value: Any) -> None:
    assert [error["loc"] for error in invalid(**{name: value}).errors()] == [(name,)]
    assert getattr(made(**{name: "1"}), name) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", -1),
        ("port", 65536),
        ("port", "http"),
        ("retain_bytes", -1),
        ("docs", "perhaps"),
        ("log_level", "LOUD"),
        ("log_format", "xml"),
        ("lane", "fast"),
        ("model_aliases", ["a"]),
        ("model_aliases", {"a": 1}),
        ("api_keys", 5),
        ("prot", 8000),
    ],
)
def test_an_invalid_value_is_refused_with_the_name_of_its_setting(name: str, value: Any) -> None:
    assert {error["loc"][0] for error in invalid(**{name: value}).errors()} == {name}


@pytest.mark.parametrize("port", [0, 65535])
def test_a_port_may_be_any_that_there_is(port: int) -> None:
    assert made(port=port).port == port


SECRET = "hunter2-hunter2"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_refusal_does_not_repeat_the_refused_value(name: str) -> None:
    error = invalid(**{name: [{"x": [SECRET]}]})
    assert name in str(error)
    assert SECRET not in str(error)
    assert SECRET not in repr(error)
    assert not [found for found in error.errors() if SECRET in found["msg"]]


@pytest.mark.parametrize("variable", ["PORT", "RUN_SECONDS", "MAX_RUNS", "DOCS", "LOG_LEVEL", "MODEL_ALIASES"])
def test_a_refusal_of_a_variable_does_not_repeat_it(environ: MutableMapping[str, str], variable: str) -> None:
    environ[f"SWARMSTREAM_{variable}"] = f'"{SECRET}"'
    assert SECRET not in str(invalid())


def test_keys_are_not_shown() -> None:
    settings = made(api_keys=(SecretStr(SECRET),))
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_aliases_that_are_not_json_are_refused_like_other_values(environ: MutableMapping[str, str]) -> None:
    environ["SWARMSTREAM_MODEL_ALIASES"] = "{claude: openai/mine}"
    with pytest.raises(SettingsError, match="model_aliases"):
        made()


def test_variables_with_our_prefix_that_are_not_settings_are_named() -> None:
    names = ["SWARMSTREAM_PORT", "SWARMSTREAM_PROT", "swarmstream_hots", "SWARMSTREAM_", "PORT", "SWARMSTREAMPORT"]
    assert unknown_settings(names) == {"SWARMSTREAM_PROT", "swarmstream_hots", "SWARMSTREAM_"}


def test_variables_in_small_letters_are_checked_too() -> None:
    assert unknown_settings(["swarmstream_host"]) == set()


def test_white_space_around_a_key_is_removed(environ: MutableMapping[str, str]) -> None:
    environ["SWARMSTREAM_API_KEYS"] = "\tkey-1 ,key-2\n"
    environ["SWARMSTREAM_TOOL_KEYS"] = '{"calculator": [" key-1\\n"]}'
    settings = made()
    assert [key.get_secret_value() for key in settings.api_keys] == ["key-1", "key-2"]
    assert [key.get_secret_value() for key in settings.tool_keys["calculator"]] == ["key-1"]
    assert [key.get_secret_value() for key in made(api_keys=(SecretStr(" key-1 "),)).api_keys] == ["key-1"]


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        *(("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("", False), ("192.0.2.1", False), ("localhost.example", False)),
    ],
)
def test_hosts_that_only_this_machine_can_reach_are_recognized(host: str, is_loopback: bool) -> None:
    assert made(host=host).listens_on_loopback == is_loopback
