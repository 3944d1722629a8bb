"""Secrets in files: `X_FILE` in place of `X`."""

from pathlib import Path

import anyio
import pytest

from swarmstream.llm.credentials import secret_variables
from swarmstream.secret_files import SecretFileError, read_secret_files
from tests.clients.process import OPENAI_KEY, run, server_process
from tests.conftest import KEY, OTHER_KEY, client
from tests.fakes.upstream import hello, provider

pytestmark = pytest.mark.anyio

NAMES = ("SWARMSTREAM_API_KEYS", "OPENAI_API_KEY")


async def test_keys_in_files_reach_both_backends_and_appear_in_no_environment(tmp_path: Path) -> None:
    (tmp_path / "clients").write_text(f"{KEY}\n{OTHER_KEY}\n")
    (tmp_path / "openai").write_text(f"  {OPENAI_KEY}\r\n")
    (tmp_path / "mine").write_text("sk-mine-0123456789")
    (tmp_path / "clients").chmod(0o604)
    for name in ("openai", "mine"):
        (tmp_path / name).chmod(0o600)
    lanes = '["other"]\nmodel = "openai/gpt-4.1"\nlane = "litellm"\n'
    async with provider(hello) as upstream:
        own = f'["own"]\nmodel = "openai/x"\napi_base = "{upstream.base_url}"\napi_key_env = "MY_LLM_TOKEN"\n'
        (tmp_path / "models.toml").write_text(lanes + own)
        environ = {
            "SWARMSTREAM_API_KEYS_FILE": str(tmp_path / "clients"),
            "OPENAI_API_KEY_FILE": str(tmp_path / "openai"),
            "MY_LLM_TOKEN_FILE": str(tmp_path / "mine"),
            "OPENAI_BASE_URL": upstream.base_url,
            "SWARMSTREAM_MODELS_FILE": str(tmp_path / "models.toml"),
        }
        async with server_process(environ=environ) as server, client(server.url, key=OTHER_KEY) as http:
            for model in ("gpt-4.1", "other", "own"):
                agent = {"agent_name": "A", "model_name": model}
                answer = await http.post("/v1/agent/completions", json={"agent_config": agent, "task": "go"})
                assert answer.status_code == 200, answer.text
            seen = await anyio.Path(f"/proc/{server.process.pid}/environ").read_text()
    keys = [exchange.headers["authorization"] for exchange in upstream.exchanges]
    assert keys == [f"Bearer {OPENAI_KEY}"] * 2 + ["Bearer sk-mine-0123456789"]
    [warning] = [line for line in server.log.splitlines() if " WARNING " in line]
    assert "can read the file that SWARMSTREAM_API_KEYS_FILE names" in warning
    for secret in (KEY, OTHER_KEY, OPENAI_KEY, "sk-mine"):
        assert secret not in seen + server.log


def test_client_keys_are_one_a_line_or_comma_separated(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("\ufeff# of the shop, no key\n key-1 \nkey-2, key-3\n\n")
    environ = {"SWARMSTREAM_API_KEYS_FILE": str(file), "UNKNOWN_KEY_FILE": "/nowhere", "OPENAI_API_KEY_FILE": ""}
    read_secret_files(environ, NAMES)
    assert environ["SWARMSTREAM_API_KEYS"] == "key-1,key-2,key-3"
    assert "OPENAI_API_KEY" not in environ


def test_a_file_without_valid_keys_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    for content in ("canary of the shop\n", "# comments\n# alone\n", "kéy-canary"):
        file.write_text(content)
        with pytest.raises(SecretFileError, match=r"^SWARMSTREAM_API_KEYS_FILE: ") as caught:
            read_secret_files({"SWARMSTREAM_API_KEYS_FILE": str(file)}, NAMES)
        assert "canary" not in str(caught.value)
    file.write_text("sk-canary\nsk-other\n")
    with pytest.raises(SecretFileError, match="OPENAI_API_KEY_FILE: the file holds more than one line"):
        read_secret_files({"OPENAI_API_KEY_FILE": str(file)}, NAMES)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"sk-canary" * 10_000, "is larger than 64 kB"),
        (b"sk-canary\xff", "is no text in UTF-8"),
        (b"sk-canary\0", "is no text"),
    ],
)
def test_a_file_that_holds_no_secret_is_named_and_not_shown(content: bytes | None, error: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    environ = {"OPENAI_API_KEY_FILE": str(file)}
    with pytest.raises(SecretFileError) as caught:
        read_secret_files(environ, NAMES)
    assert str(caught.value).startswith(f"OPENAI_API_KEY_FILE: {file} {error}")
    assert "canary" not in str(caught.value)
    assert environ.keys() == {"OPENAI_API_KEY_FILE"}


def test_a_variable_and_its_file_together_are_refused() -> None:
    with pytest.raises(SecretFileError, match="both OPENAI_API_KEY and OPENAI_API_KEY_FILE are set"):
        read_secret_files({"OPENAI_API_KEY": "sk-canary", "OPENAI_API_KEY_FILE": "/nowhere"}, NAMES)


def test_a_server_does_not_start_without_its_secrets() -> None:
    refused = run("serve", "--dev", GEMINI_API_KEY_FILE="/nowhere")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "GEMINI_API_KEY_FILE: /nowhere cannot be read: No such file or directory.\n"


def test_provider_secrets_are_read_except_those_that_providers_read_from_files_themselves() -> None:
    names = secret_variables()
    assert {"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"} <= names
    assert not names & {"OCI_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "AWS_WEB_IDENTITY_TOKEN", "OPENAI_BASE_URL"}
    assert not [name for name in names if name.endswith("_FILE")]
