"""Models that can be called here by their names, and names that are refused before anything is sent."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from swarmstream.errors import AppError, NoCredentials, UnknownModel
from swarmstream.llm.aliases import Alias
from swarmstream.llm.model_ref import Price
from swarmstream.settings import Settings
from tests.conftest import client, serving
from tests.llm.registries import EVERY_KEY, PROVIDERS, ROOT, aliased, local, refused, registry


@pytest.mark.parametrize(
    ("name", "target"),
    [
        # By prefix, whatever the table says of the rest.
        ("openai/gpt-4.1-mini", "openai/gpt-4.1-mini"),
        ("openai/nobody-knows-it", "openai/nobody-knows-it"),
        ("groq/claude-99", "groq/claude-99"),
        ("openrouter/anthropic/claude-99", "openrouter/anthropic/claude-99"),
        ("ollama/llama3:8b", "ollama/llama3:8b"),
        ("azure/my-deployment", "azure/my-deployment"),
        # By the table.
        ("gpt-4.1-mini", "openai/gpt-4.1-mini"),
        ("claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        ("o1", "openai/o1"),
        ("ft:gpt-3.5-turbo", "openai/ft:gpt-3.5-turbo"),
        # By family: newer than the table.
        ("gpt-99-turbo", "openai/gpt-99-turbo"),
        ("chatgpt-99", "openai/chatgpt-99"),
        ("o4-99", "openai/o4-99"),
        ("claude-99", "anthropic/claude-99"),
        ("gemini-99", "gemini/gemini-99"),
        ("deepseek-99", "deepseek/deepseek-99"),
        ("grok-99", "xai/grok-99"),
    ],
)
def test_a_provider_is_known_by_prefix_by_table_or_by_family(name: str, target: str) -> None:
    ref = registry(EVERY_KEY).resolve(name)
    assert ref.target == target
    assert (ref.api_base, ref.api_key_env) == (None, None)


def test_a_model_that_no_price_table_knows_is_not_wrong() -> None:
    ref = registry(EVERY_KEY).resolve("gpt-99-turbo")
    assert (ref.price, ref.max_output_tokens) == (None, None)


@pytest.mark.parametrize("prefix", ["", "openai/"])
def test_the_table_knows_prices_and_limits_with_and_without_the_provider(prefix: str) -> None:
    ref = registry(EVERY_KEY).resolve(f"{prefix}gpt-4.1-mini")
    assert ref.price == Price(input=0.4, output=1.6, cached_input=0.1)
    assert ref.max_output_tokens == 32768


def test_the_price_of_another_providers_model_of_that_name_is_not_taken() -> None:
    assert registry(EVERY_KEY).resolve("groq/gpt-4.1-mini").price is None


def test_geminis_bare_names_go_where_there_are_credentials_for_them() -> None:
    assert registry({"GEMINI_API_KEY": "key"}).resolve("gemini-2.5-pro").target == "gemini/gemini-2.5-pro"
    vertex = {"VERTEXAI_PROJECT": "p", "VERTEXAI_LOCATION": "l"}
    assert registry(vertex).resolve("gemini-2.5-pro").target == "vertex_ai/gemini-2.5-pro"


@pytest.mark.parametrize(
    "name", ["nonsense", "", "openai", "meta-llama/Llama-3-70b", "my-company/model", "Openai/gpt-4", "gpt4", "demo"]
)
def test_a_name_without_a_known_provider_is_refused(name: str) -> None:
    assert f'"{name}"' in refused(UnknownModel, name, registry(EVERY_KEY))


def test_a_long_name_is_quoted_in_part() -> None:
    assert len(refused(UnknownModel, "x" * 5000, registry(EVERY_KEY))) <= 300


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("gpt-4.1-mini", ["OPENAI_API_KEY"]),
        ("gpt-99-turbo", ["OPENAI_API_KEY"]),
        ("claude-sonnet-4-5", ["ANTHROPIC_API_KEY"]),
        ("gemini-2.5-pro", ["GEMINI_API_KEY"]),
        ("grok-99", ["XAI_API_KEY"]),
        ("groq/anything", ["GROQ_API_KEY"]),
        ("openrouter/a/b", ["OPENROUTER_API_KEY"]),
        ("azure/my-deployment", ["AZURE_API_KEY", "AZURE_API_BASE"]),
        ("bedrock/anthropic.claude-v2", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]),
    ],
)
def test_a_missing_key_is_refused_with_the_name_of_its_variable(name: str, variables: list[str]) -> None:
    for environ in ({}, dict.fromkeys(variables, "")):
        detail = refused(NoCredentials, name, registry(environ))
        assert f'"{name}"' in detail
        assert all(variable in detail for variable in variables)


def test_only_missing_credentials_are_named() -> None:
    detail = refused(NoCredentials, "azure/x", registry({"AZURE_API_KEY": "very-secret"}))
    assert "AZURE_API_BASE" in detail
    assert "AZURE_API_KEY" not in detail
    assert "very-secret" not in detail


@pytest.mark.parametrize(
    ("name", "environ"),
    [
        ("claude-sonnet-4-5", {"ANTHROPIC_AUTH_TOKEN": "t"}),
        ("gemini/gemini-2.5-pro", {"GOOGLE_API_KEY": "k"}),
        ("bedrock/anthropic.claude-v2", {"AWS_PROFILE": "p"}),
        ("azure/x", {"AZURE_OPENAI_API_KEY": "k", "AZURE_API_BASE": "https://b.example"}),
        ("azure/x", {"AZURE_OPENAI_AD_TOKEN": "t", "AZURE_API_BASE": "https://b.example"}),
        ("ollama/llama3", {"OLLAMA_API_BASE": "http://127.0.0.1:11434"}),
    ],
)
def test_any_way_to_hold_credentials_is_enough(name: str, environ: dict[str, str]) -> None:
    assert registry(environ).resolve(name).name == name


def test_a_provider_without_an_address_of_its_own_is_refused_until_one_is_set() -> None:
    for name in ("ollama/llama3", "ollama_chat/llama3", "llamafile/x", "hosted_vllm/x", "lm_studio/x", "lemonade/x"):
        assert "_API_BASE" in refused(NoCredentials, name, registry({}))
    assert [
        name for name, facts in PROVIDERS.items() if not all(facts["credentials"]) or not facts["credentials"]
    ] == []


def test_another_providers_key_is_not_enough() -> None:
    refused(NoCredentials, "groq/anything", registry({"OPENAI_API_KEY": "key"}))


def test_the_demo_model_needs_nothing() -> None:
    ref = registry().resolve("demo/swarm")
    assert (ref.backend, ref.target) == ("demo", "swarm")


MISLEADING = [
    "https://evil.example/v1",
    "openai/https://evil.example/v1",
    "openai//evil.example",
    "openai/../../admin",
    "gemini/..",
    "gemini/..%2f..",
    "/openai/gpt-4",
    "openai/gpt-4?key=1",
    "openai/gpt-4#x",
    "openai/gpt 4",
    "openai/gpt-4\n",
    "openai/gpt-4\\x",
    "openai/gpt-4é",
    "-openai/gpt-4",
    "bedrock/agentcore/arn:aws:bedrock-agentcore:evil.example/x:1:runtime/r",
    "bedrock/agent/AAAAAAAAAA/BBBBBBBBBB",
    "azure_ai/agents/asst_1",
    "anthropic/ft:gpt-3.5-turbo:x",
    "groq/ft:davinci-002",
    "deepseek/x-replicate",
    "anthropic/replicate/meta/llama",
    "azure/mistral-large-latest",
    "azure/command-r-plus-08-2024",
    "azure/mistral-embed",
    "openai/",
]


@pytest.mark.parametrize("name", MISLEADING)
def test_a_name_that_would_lead_elsewhere_is_refused(name: str) -> None:
    refused(UnknownModel, name, registry(EVERY_KEY))


@pytest.mark.parametrize("target", ["https://evil.example/v1", "groq/../x", "anthropic/ft:gpt-3.5-turbo:x"])
def test_an_alias_does_not_make_a_misleading_name_good(target: str) -> None:
    with pytest.raises(ValidationError):
        Alias(model=target)


@pytest.mark.parametrize(
    "name", ["openai/ft:gpt-4o-mini:org::id", "azure/ft:x", "replicate/meta/llama-2-70b-chat", "openai/a@b+c_d.e:f-g/h"]
)
def test_a_name_that_only_looks_like_one_of_those_is_accepted(name: str) -> None:
    assert registry(EVERY_KEY).resolve(name).target == name


def test_without_credentials_only_the_demo_is_on_offer() -> None:
    assert registry().names() == ["demo/swarm"]


def test_only_models_that_there_are_credentials_for_are_on_offer() -> None:
    models = registry({"GROQ_API_KEY": "key", "ANTHROPIC_API_KEY": "key", "OPENAI_API_KEY": ""})
    names = models.names()
    assert names == sorted(set(names))
    assert {"demo/swarm", "claude-sonnet-4-5"} < set(names)
    targets = {models.resolve(name).target.partition("/")[0] for name in names if name != "demo/swarm"}
    assert targets == {"anthropic", "groq"}


def test_aliases_are_on_offer_but_globs_are_not() -> None:
    models = aliased({"house": local("x"), "gpt-*": local("x"), "o[13]": local("x"), "o?": local("x")})
    assert models.names() == ["demo/swarm", "house"]


async def test_details_name_the_models_of_aliases_and_neither_their_address_nor_their_key(tmp_path: Path) -> None:
    aliases = tmp_path / "models.toml"
    aliases.write_text(
        '["house"]\nmodel = "openai/mine"\napi_base = "http://canary-base:8000/v1"\napi_key_env = "CANARY_VARIABLE"\n'
        '["o?"]\nmodel = "openai/o3"\n["demo-*"]\nmodel = "demo/swarm"\n'
        '["claude-*"]\nmodel = "anthropic/claude-opus-5-5"\napi_key_env = "ABSENT_VARIABLE"\n'
    )
    environ = {"CANARY_VARIABLE": "canary-key-0123456789", "HOSTED_VLLM_API_BASE": "http://canary-base/v1"}
    settings: dict[str, Any] = {"models_file": aliases, "model_aliases": {"*": "hosted_vllm/my-model"}}
    async with serving(environ=environ, **settings) as url, client(url) as http:
        answer = await http.get("/v1/models/available")
    assert answer.json()["models"] == ["demo/swarm", "house"]
    rows = [(row["name"], row["target"], row["is_glob"], row["has_credentials"]) for row in answer.json()["details"]]
    assert rows == [
        ("*", "hosted_vllm/my-model", True, True),
        ("house", "openai/mine", False, True),
        ("o?", "openai/o3", True, False),
        ("demo-*", "demo/swarm", True, True),
        ("claude-*", "anthropic/claude-opus-5-5", True, False),
    ]
    assert "canary" not in answer.text.lower()
    assert "variable" not in answer.text.lower()


def test_the_default_model_has_a_price_and_a_size_in_the_locked_tables() -> None:
    model = Settings.model_fields["default_model"].default
    models = registry(EVERY_KEY)
    ref = models.resolve(model)
    assert ref.backend == "direct"
    assert ref.price is not None
    assert (ref.price.input, ref.price.output) == (0.1, 0.5)
    assert ref.max_output_tokens == 128_000
    assert model in models.names()


def test_every_listed_model_can_be_called() -> None:
    models = registry(EVERY_KEY)
    refusals: list[str] = []
    for name in models.names():
        try:
            models.resolve(name)
        except AppError as error:
            refusals.append(error.detail)
    assert refusals == []


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_app_is_imported_without_litellm() -> None:
    process = run("-c", "import swarmstream.main, sys; assert 'litellm' not in sys.modules")
    assert process.returncode == 0, process.stderr


def test_the_tables_equal_those_of_the_installed_litellm_and_our_requests_equal_its_own() -> None:
    command = [sys.executable, ROOT / "scripts" / "models", "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert checked.returncode == 0, checked.stderr
