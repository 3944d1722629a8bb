"""Which models can be called here, what they cost, and which names are refused before anything is sent."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest
from pydantic import ValidationError

from swarmstream.errors import AppError, NoCredentials, UnknownModel
from swarmstream.llm.aliases import Alias, AliasError, AliasPrice, load_aliases, read_aliases
from swarmstream.llm.model_ref import ChatEndpoint, Price, PriceTier
from swarmstream.llm.registry import Registry
from swarmstream.settings import BackendName, Settings
from tests.conftest import client, serving

ROOT = Path(__file__).resolve().parents[2]
PROVIDERS = orjson.loads((ROOT / "app" / "swarmstream" / "llm" / "providers.json").read_bytes())["providers"]

EVERY_KEY = {name: "key" for facts in PROVIDERS.values() for way in facts["credentials"] for name in way}
"""An environment with the credentials of every provider."""

MILLION = 1_000_000


def registry(environ: dict[str, str] | None = None) -> Registry:
    return aliased({}, environ)


def aliased(
    aliases: dict[str, Alias], environ: dict[str, str] | None = None, backend: BackendName | Literal["auto"] = "auto"
) -> Registry:
    return Registry(default_model="gpt-4.1-mini", environ=environ or {}, aliases=aliases, backend=backend)


def local(name: str, **fields: Any) -> Alias:
    """An alias of a model that needs no credentials."""
    return Alias(model=f"openai/{name}", api_base="http://localhost:8000/v1", **fields)


def refused(error: type[AppError], name: str, models: Registry) -> str:
    with pytest.raises(error) as caught:
        models.resolve(name)
    assert type(caught.value) is error
    return caught.value.detail


# --- Aliases --------------------------------------------------------------------------------------------------------


def test_an_exact_alias_wins_over_a_glob_that_stands_before_it() -> None:
    models = aliased({"gpt-*": local("any"), "gpt-4": local("four")})
    assert models.resolve("gpt-4").target == "openai/four"
    assert models.resolve("gpt-5").target == "openai/any"


def test_of_several_globs_the_first_one_wins() -> None:
    narrow_first = aliased({"claude-opus-*": local("big"), "claude-*": local("small"), "*": local("rest")})
    assert narrow_first.resolve("claude-opus-9").target == "openai/big"
    assert narrow_first.resolve("claude-haiku-9").target == "openai/small"
    assert narrow_first.resolve("nonsense").target == "openai/rest"
    wide_first = aliased({"*": local("rest"), "claude-*": local("small")})
    assert wide_first.resolve("claude-haiku-9").target == "openai/rest"


def test_globs_tell_case_apart() -> None:
    refused(UnknownModel, "House-1", aliased({"house-*": local("x")}))


def test_an_alias_wins_over_the_model_that_it_is_named_after() -> None:
    ref = aliased({"gpt-4.1-mini": local("mine")}, {"OPENAI_API_KEY": "key"}).resolve("gpt-4.1-mini")
    assert (ref.target, ref.api_base) == ("openai/mine", "http://localhost:8000/v1")


def test_a_model_keeps_the_name_that_it_was_asked_for_by() -> None:
    assert aliased({"fast-*": local("x")}).resolve("fast-1").name == "fast-1"
    assert registry({"OPENAI_API_KEY": "key"}).resolve("gpt-4.1-mini").name == "gpt-4.1-mini"


def test_an_alias_is_for_a_model_and_not_for_an_alias() -> None:
    with pytest.raises(ValidationError):
        Alias(model="other")


def test_an_alias_may_stand_for_the_demo_model() -> None:
    ref = aliased({"gpt-*": Alias(model="demo/swarm")}).resolve("gpt-4")
    assert (ref.backend, ref.target, ref.price) == ("demo", "swarm", Price(input=0.0, output=0.0))


def test_an_api_base_of_its_own_needs_no_credentials_of_the_provider() -> None:
    ref = aliased({"house": local("llama")}).resolve("house")
    assert (ref.backend, ref.target) == ("direct", "openai/llama")
    assert (ref.api_base, ref.api_key_env) == ("http://localhost:8000/v1", None)


@pytest.mark.parametrize("environ", [{}, {"HOUSE_KEY": ""}, {"OPENAI_API_KEY": "key"}])
def test_the_variable_of_an_aliass_key_is_named_when_it_is_not_set(environ: dict[str, str]) -> None:
    models = aliased({"house": local("llama", api_key_env="HOUSE_KEY")}, environ)
    detail = refused(NoCredentials, "house", models)
    assert '"house"' in detail
    assert "HOUSE_KEY" in detail


def test_an_aliass_key_is_known_by_its_variable_only() -> None:
    ref = aliased({"house": local("llama", api_key_env="HOUSE_KEY")}, {"HOUSE_KEY": "very-secret"}).resolve("house")
    assert ref.api_key_env == "HOUSE_KEY"
    assert "very-secret" not in repr(ref)


def test_an_alias_without_an_api_base_needs_the_providers_credentials() -> None:
    models = {"fast": Alias(model="gpt-4.1-mini")}
    assert "OPENAI_API_KEY" in refused(NoCredentials, "fast", aliased(models))
    assert aliased(models, {"OPENAI_API_KEY": "key"}).resolve("fast").target == "openai/gpt-4.1-mini"


def test_an_aliass_price_wins_over_the_tables() -> None:
    own = AliasPrice(input=1, output=2, cached_input=0.5)
    models = aliased({"a": local("gpt-4.1-mini", price=own), "b": local("gpt-4.1-mini"), "c": local("unheard-of")})
    assert models.resolve("a").price == Price(input=1.0, output=2.0, cached_input=0.5)
    assert models.resolve("b").price == Price(input=0.4, output=1.6, cached_input=0.1)
    assert models.resolve("c").price is None


def test_aliases_come_from_a_toml_file_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(
        """
        ["claude-*"]
        model = "openai/local"
        api_base = "http://localhost:8000/v1"
        api_key_env = "HOUSE_KEY"
        price = { input = 1, output = 2.5, cached_input = 0 }

        ["*"]
        model = "demo/swarm"
        """
    )
    aliases = read_aliases(path)
    price = AliasPrice(input=1, output=2.5, cached_input=0)
    assert list(aliases.items()) == [
        ("claude-*", local("local", api_key_env="HOUSE_KEY", price=price)),
        ("*", Alias(model="demo/swarm")),
    ]
    assert aliased(aliases).resolve("whatever").backend == "demo"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[house\n", "TOML"),
        ("house = 1\n", "house"),
        ("[house]\n", "house.model"),
        ('[house]\nmodel = "openai/x"\napi_bass = "http://localhost"\n', "house.api_bass"),
        ('[house]\nmodel = "openai/x"\nprice = { input = -1, output = 1 }\n', "house.price.input"),
        ('[house]\nmodel = "openai/x"\nprice = { input = 1 }\n', "house.price.output"),
        ('[house]\nmodel = "openai/x"\nlane = "auto"\n', "house.lane"),
    ],
)
def test_a_file_that_holds_something_else_is_refused_with_the_place(tmp_path: Path, text: str, hint: str) -> None:
    path = tmp_path / "models.toml"
    path.write_text(text)
    with pytest.raises(AliasError, match=hint):
        read_aliases(path)


def test_a_file_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(AliasError, match=r"nowhere\.toml"):
        read_aliases(tmp_path / "nowhere.toml")


def test_the_short_form_of_aliases_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text('[a]\nmodel = "openai/file"\n[b]\nmodel = "openai/file"\n')
    short = {"a": "openai/short", "c": "openai/short"}
    aliases = load_aliases(Settings.model_construct(models_file=path, model_aliases=short))
    assert {name: alias.model for name, alias in aliases.items()} == {
        "a": "openai/short",
        "b": "openai/file",
        "c": "openai/short",
    }


# --- Providers ------------------------------------------------------------------------------------------------------


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
def test_a_name_that_tells_no_provider_is_refused(name: str) -> None:
    assert f'"{name}"' in refused(UnknownModel, name, registry(EVERY_KEY))


def test_a_long_name_is_quoted_in_part() -> None:
    assert len(refused(UnknownModel, "x" * 5000, registry(EVERY_KEY))) <= 300


# --- Credentials ----------------------------------------------------------------------------------------------------


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


def test_only_what_is_missing_is_named() -> None:
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


def test_no_provider_is_called_at_an_address_that_nobody_has_set() -> None:
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


# --- Names that mislead ---------------------------------------------------------------------------------------------

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


# --- Lanes ----------------------------------------------------------------------------------------------------------

USAGE = {"stream_options": {"include_usage": True}}
AZURE = {"AZURE_API_KEY": "key", "AZURE_API_BASE": "https://mine.openai.azure.com"}


def endpoint(name: str, environ: dict[str, str], aliases: dict[str, Alias] | None = None) -> ChatEndpoint:
    """Where the direct lane posts to for this name."""
    ref = aliased(aliases or {}, environ).resolve(name)
    assert ref.backend == "direct"
    assert ref.endpoint is not None
    return ref.endpoint


def lane(name: str, environ: dict[str, str], aliases: dict[str, Alias] | None = None) -> str:
    ref = aliased(aliases or {}, environ).resolve(name)
    assert (ref.endpoint is not None) == (ref.backend == "direct")
    return ref.backend


@pytest.mark.parametrize(
    ("name", "variable", "url", "extra"),
    [
        ("gpt-4.1-mini", "OPENAI_API_KEY", "https://api.openai.com/v1/chat/completions", USAGE),
        ("groq/llama-99", "GROQ_API_KEY", "https://api.groq.com/openai/v1/chat/completions", USAGE),
        ("deepseek-99", "DEEPSEEK_API_KEY", "https://api.deepseek.com/beta/chat/completions", USAGE),
        ("grok-99", "XAI_API_KEY", "https://api.x.ai/v1/chat/completions", USAGE),
        ("together_ai/a/b", "TOGETHER_API_KEY", "https://api.together.ai/v1/chat/completions", USAGE),
        ("moonshot/kimi-99", "MOONSHOT_API_KEY", "https://api.moonshot.ai/v1/chat/completions", USAGE),
        ("cerebras/x", "CEREBRAS_API_KEY", "https://api.cerebras.ai/v1/chat/completions", {}),
        ("nvidia_nim/a/b", "NVIDIA_NIM_API_KEY", "https://integrate.api.nvidia.com/v1/chat/completions", {}),
        ("perplexity/sonar", "PERPLEXITYAI_API_KEY", "https://api.perplexity.ai/chat/completions", {}),
        ("deepinfra/a/b", "DEEPINFRA_API_KEY", "https://api.deepinfra.com/v1/openai/chat/completions", {}),
        (
            "openrouter/anthropic/claude-99",
            "OPENROUTER_API_KEY",
            "https://openrouter.ai/api/v1/chat/completions",
            {**USAGE, "usage": {"include": True}},
        ),
    ],
)
def test_providers_that_speak_openai_are_called_directly(
    name: str, variable: str, url: str, extra: dict[str, Any]
) -> None:
    provider = registry({variable: "key"}).resolve(name).target.partition("/")[0]
    assert endpoint(name, {variable: "key"}) == ChatEndpoint(
        url=url, model=name.removeprefix(f"{provider}/"), key_env=variable, extra=tuple(extra.items())
    )


def test_mistral_has_a_name_of_its_own_for_the_seed() -> None:
    assert endpoint("mistral/mistral-99", {"MISTRAL_API_KEY": "key"}) == ChatEndpoint(
        url="https://api.mistral.ai/v1/chat/completions",
        model="mistral-99",
        key_env="MISTRAL_API_KEY",
        renames=(("seed", "random_seed"),),
    )


@pytest.mark.parametrize(
    ("bare", "model"),
    [
        ("kimi-99", "accounts/fireworks/models/kimi-99"),
        ("accounts/mine/models/x", "accounts/mine/models/x"),
        ("accounts/fireworks/routers/x-fast", "accounts/fireworks/routers/x-fast"),
    ],
)
def test_fireworks_models_get_their_path_unless_they_have_one(bare: str, model: str) -> None:
    assert endpoint(f"fireworks_ai/{bare}", {"FIREWORKS_API_KEY": "key"}).model == model


@pytest.mark.parametrize(
    "name",
    [
        "claude-99",
        "gemini/gemini-99",
        "vertex_ai/gemini-99",
        "bedrock/anthropic.claude-v2",
        "cohere/command-99",
        "ollama/llama3",
        "azure_ai/x",
        "databricks/x",
        "text-completion-openai/gpt-3.5-turbo-instruct",
    ],
)
def test_providers_with_a_protocol_of_their_own_are_left_to_litellm(name: str) -> None:
    assert lane(name, EVERY_KEY) == "litellm"


@pytest.mark.parametrize(
    "name",
    [
        # Served as OpenAI's responses only, or when asked for as such.
        "gpt-5-pro",
        "openai/o3-deep-research",
        "azure/gpt-5-codex",
        "xai/grok-4.20-multi-agent",
        "openai/responses/gpt-99",
        "groq/responses/x",
        # Not streamed.
        "azure/o1",
        "azure/o4-mini",
        "azure/my-o1-deployment",
        # Names that litellm reads something into.
        "azure/o_series/x",
        "baseten/abcd1234",
        "fireworks_ai/kimi-99-fast",
        "fireworks_ai/routers/x",
        "openai/ft:davinci-002:x",
    ],
)
def test_models_that_are_served_in_another_way_are_left_to_litellm(name: str) -> None:
    keys = {"OPENAI_API_KEY": "k", "XAI_API_KEY": "k", "GROQ_API_KEY": "k", "BASETEN_API_KEY": "k"}
    assert lane(name, {**AZURE, **keys, "FIREWORKS_API_KEY": "k"}) == "litellm"


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("gpt-4.1-mini", "max_tokens"),
        ("gpt-4o-99", "max_tokens"),
        ("openai/gpt-oss-99", "max_tokens"),
        ("azure/gpt-35-turbo", "max_tokens"),
        ("azure/gpt-41-mini", "max_tokens"),
        ("azure/my-deployment", "max_tokens"),
        ("openai/foo1", "max_tokens"),
        ("groq/gpt-5", "max_tokens"),
        ("openrouter/openai/o3", "max_tokens"),
        ("gpt-5", "max_completion_tokens"),
        ("gpt-5.1-chat-latest", "max_completion_tokens"),
        ("openai/gpt-7", "max_completion_tokens"),
        ("openai/gpt-12-mini", "max_completion_tokens"),
        ("o3", "max_completion_tokens"),
        ("openai/o5-mini", "max_completion_tokens"),
        ("openai/ft:o4-mini-2025-04-16", "max_completion_tokens"),
        ("azure/prod-gpt-5-mini", "max_completion_tokens"),
        ("azure/eu/gpt-99", "max_completion_tokens"),
        ("azure/my-o3", "max_completion_tokens"),
        ("house", "max_completion_tokens"),
    ],
)
def test_openais_reasoning_models_have_another_name_for_the_limit_also_those_to_come(name: str, limit: str) -> None:
    environ = {**AZURE, "OPENAI_API_KEY": "key", "GROQ_API_KEY": "key", "OPENROUTER_API_KEY": "key"}
    renames = dict(endpoint(name, environ, {"house": local("gpt-5-mini")}).renames)
    assert renames.get("max_tokens", "max_tokens") == limit


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "https://api.openai.com/v1/chat/completions"),
        ({"OPENAI_API_BASE": "https://b.example/v1"}, "https://b.example/v1/chat/completions"),
        ({"OPENAI_API_BASE": "https://b.example", "OPENAI_BASE_URL": ""}, "https://b.example/chat/completions"),
        (
            {"OPENAI_API_BASE": "https://b.example", "OPENAI_BASE_URL": "https://a.example/v1/"},
            "https://a.example/v1/chat/completions",
        ),
        ({"OPENAI_BASE_URL": "https://a.example/x/chat/completions"}, "https://a.example/x/chat/completions"),
    ],
)
def test_a_base_url_comes_from_the_variable_that_litellm_prefers(environ: dict[str, str], url: str) -> None:
    assert endpoint("gpt-4.1-mini", {**environ, "OPENAI_API_KEY": "key"}).url == url


@pytest.mark.parametrize(
    "base", ["https://h.example", "https://h.example/", "https://h.example/v1", "https://h.example/v1/chat/completions"]
)
def test_what_a_base_url_has_of_the_path_is_not_repeated(base: str) -> None:
    environ = {"HEROKU_API_KEY": "key", "HEROKU_API_BASE": base}
    assert endpoint("heroku/x", environ).url == "https://h.example/v1/chat/completions"


@pytest.mark.parametrize("base", ["h.example/v1", "https://h.example/v1?region=eu", "ftp://h.example"])
def test_a_base_url_that_no_path_can_be_appended_to_is_left_to_litellm(base: str) -> None:
    assert lane("gpt-4.1-mini", {"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": base}) == "litellm"


def test_the_key_comes_from_the_variable_that_litellm_prefers() -> None:
    environ = {"FIREWORKS_AI_TOKEN": "key"}
    assert endpoint("fireworks_ai/x", environ).key_env == "FIREWORKS_AI_TOKEN"
    environ["FIREWORKS_API_KEY"] = "key"
    assert endpoint("fireworks_ai/x", environ).key_env == "FIREWORKS_API_KEY"


def test_a_server_of_ones_own_gets_a_key_only_if_there_is_one() -> None:
    environ = {"HOSTED_VLLM_API_BASE": "http://vllm.internal:8000/v1", "OPENAI_API_KEY": "key"}
    vllm = endpoint("hosted_vllm/meta/llama", environ)
    assert (vllm.url, vllm.model) == ("http://vllm.internal:8000/v1/chat/completions", "meta/llama")
    assert vllm.key_env is None
    assert endpoint("hosted_vllm/x", {**environ, "HOSTED_VLLM_API_KEY": "key"}).key_env == "HOSTED_VLLM_API_KEY"


def test_openai_is_told_the_organization_and_the_project() -> None:
    environ = {"OPENAI_API_KEY": "key", "OPENAI_ORGANIZATION": "org", "OPENAI_PROJECT_ID": "proj"}
    told = (("openai-organization", "org"), ("openai-project", "proj"))
    assert endpoint("gpt-4.1-mini", environ).headers == told
    assert endpoint("house", environ, {"house": local("x")}).headers == ()
    assert endpoint("groq/x", {**environ, "GROQ_API_KEY": "key"}).headers == ()


def test_an_aliass_base_url_gets_its_key_and_no_other() -> None:
    environ = {"OPENAI_API_KEY": "key", "HOUSE_KEY": "key", "OPENAI_BASE_URL": "https://elsewhere.example"}
    models = {"open": local("a/b"), "keyed": local("x", api_key_env="HOUSE_KEY")}
    url = "http://localhost:8000/v1/chat/completions"
    assert endpoint("open", environ, models) == ChatEndpoint(url=url, model="a/b", extra=tuple(USAGE.items()))
    assert endpoint("keyed", environ, models).key_env == "HOUSE_KEY"
    assert endpoint("keyed", environ, models).url == url


def test_an_alias_may_have_another_key_for_the_providers_own_address() -> None:
    models = {"team": Alias(model="groq/x", api_key_env="TEAM_KEY")}
    team = endpoint("team", {"GROQ_API_KEY": "key", "TEAM_KEY": "key"}, models)
    assert (team.url, team.key_env) == ("https://api.groq.com/openai/v1/chat/completions", "TEAM_KEY")


@pytest.mark.parametrize(
    ("environ", "key", "version"),
    [
        ({"AZURE_API_KEY": "key"}, "AZURE_API_KEY", "2025-02-01-preview"),
        ({"AZURE_API_KEY": "key", "AZURE_API_VERSION": "2024-10-21"}, "AZURE_API_KEY", "2024-10-21"),
        ({"AZURE_API_KEY": "a", "AZURE_OPENAI_API_KEY": "b"}, "AZURE_OPENAI_API_KEY", "2025-02-01-preview"),
    ],
)
@pytest.mark.parametrize("base", ["AZURE_API_BASE", "AZURE_OPENAI_ENDPOINT"])
def test_azure_has_the_deployment_in_its_url_and_a_header_of_its_own(
    environ: dict[str, str], key: str, version: str, base: str
) -> None:
    mine = endpoint("azure/team/gpt+4", {**environ, base: "https://mine.openai.azure.com/"})
    url = "https://mine.openai.azure.com/openai/deployments/team%2Fgpt%2B4/chat/completions"
    assert mine.url == f"{url}?api-version={version}"
    assert (mine.model, mine.key_env, mine.key_header) == ("team/gpt+4", key, "api-key")


@pytest.mark.parametrize(
    "environ",
    [
        {"AZURE_OPENAI_AD_TOKEN": "token"},
        {"AZURE_USERNAME": "u", "AZURE_PASSWORD": "p", "AZURE_CLIENT_ID": "c"},
        {"AZURE_API_KEY": "", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s"},
        {"AZURE_API_VERSION": "preview"},
        {"AZURE_API_BASE": "https://mine.openai.azure.com/openai/v1"},
        {"AZURE_API_BASE": "https://mine.openai.azure.com/openai/deployments/x"},
        {"AZURE_API_BASE": "https://gateway.ai.cloudflare.com/v1/account/gateway/azure-openai/mine"},
        {"OPENAI_CUSTOM_HEADERS": "x-team: a"},
    ],
)
def test_azure_with_more_than_a_key_and_an_address_is_left_to_litellm(environ: dict[str, str]) -> None:
    assert lane("azure/x", AZURE) == "direct"
    assert lane("azure/x", {**AZURE, **environ}) == "litellm"


@pytest.mark.parametrize(
    ("name", "environ"),
    [
        ("mistral/x", {"MISTRAL_API_KEY": "key", "MISTRAL_AZURE_API_BASE": "https://azure.example"}),
        ("mistral/x", {"MISTRAL_API_KEY": "key", "MISTRAL_AZURE_API_KEY": "key"}),
        ("gpt-4.1-mini", {"OPENAI_API_KEY": "key", "OPENAI_CUSTOM_HEADERS": "x-team: a"}),
        ("gpt-4.1-mini", {"OPENAI_API_KEY": "key", "USE_LITELLM_PROXY": "True"}),
    ],
)
def test_what_an_environment_says_to_litellm_alone_is_left_to_it(name: str, environ: dict[str, str]) -> None:
    assert lane(name, environ) == "litellm"


@pytest.mark.parametrize("provider", sorted(name for name, facts in PROVIDERS.items() if "chat" in facts))
def test_a_key_goes_nowhere_but_to_its_providers_own_address(provider: str) -> None:
    """With everything set that this provider does not ask for, it still gets its own."""
    facts = PROVIDERS[provider]
    own = {*facts["base_url_variables"], *facts["chat"]["keys"], *facts["chat"].get("unless", ())}
    environ = {name: f"https://{name}.example" for facts in PROVIDERS.values() for name in facts["base_url_variables"]}
    environ = {name: text for name, text in {**EVERY_KEY, **environ}.items() if name not in own}
    key = facts["chat"]["keys"][0]
    base = facts["chat"]["base"]
    environ[key] = "key"
    if base is None:
        base = environ[facts["base_url_variables"][0]] = "https://mine.example"
    mine = endpoint(f"{provider}/unheard-of", environ)
    assert mine.key_env == key
    assert mine.url.startswith(f"{base}/")


def test_a_server_may_be_told_never_to_call_directly() -> None:
    models = aliased({"house": local("x")}, {"OPENAI_API_KEY": "key"}, "litellm")
    for name in ("gpt-4.1-mini", "house"):
        ref = models.resolve(name)
        assert (ref.backend, ref.endpoint) == ("litellm", None)


def test_a_server_may_be_told_to_call_directly_only() -> None:
    models = aliased({}, {"OPENAI_API_KEY": "key", "ANTHROPIC_API_KEY": "key"}, "direct")
    assert models.resolve("gpt-4.1-mini").backend == "direct"
    assert models.resolve("demo/swarm").backend == "demo"
    for name in ("claude-sonnet-4-5", "gpt-5-pro"):
        detail = refused(UnknownModel, name, models)
        assert f'"{name}"' in detail
        assert "litellm" in detail
    assert "gpt-4.1-mini" in models.names()
    assert not {"claude-sonnet-4-5", "gpt-5-pro"} & set(models.names())


async def test_the_setting_is_what_the_server_goes_by() -> None:
    payload = {"task": "go", "agents": [{"agent_name": "A", "model_name": "claude-sonnet-4-5"}]}
    async with serving(lane="direct", environ={"ANTHROPIC_API_KEY": "key"}) as url, client(url) as http:
        answer = await http.post("/v1/swarm/completions", json=payload)
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_model")


def test_an_aliass_lane_wins_over_the_servers() -> None:
    models = {
        "a": local("x", lane="direct"),
        "b": local("x", lane="litellm"),
        "c": Alias(model="groq/x", lane="litellm"),
    }
    for own in ("auto", "direct", "litellm"):
        server = aliased(models, {"GROQ_API_KEY": "key"}, own)
        assert [server.resolve(name).backend for name in models] == ["direct", "litellm", "litellm"]


@pytest.mark.parametrize("model", ["claude-99", "ollama/llama3", "gpt-5-pro", "azure/o1", "baseten/abcd1234"])
def test_an_alias_for_what_cannot_go_direct_is_refused_at_start(tmp_path: Path, model: str) -> None:
    path = tmp_path / "models.toml"
    path.write_text(f'[house]\nmodel = "{model}"\nlane = "direct"\n')
    with pytest.raises(AliasError, match=f'house: .*"{model}" can only be called through litellm'):
        read_aliases(path)


def test_an_alias_whose_address_does_not_allow_the_direct_lane_is_refused_when_it_is_asked_for() -> None:
    models = {"house": Alias(model="azure/x", api_base="https://a.example/openai/v1", lane="direct")}
    assert '"house"' in refused(UnknownModel, "house", aliased(models))


# --- Prices ---------------------------------------------------------------------------------------------------------


def costs(
    price: Price, *, input_tokens: int = 0, cached: int = 0, output_tokens: int = 0, reasoning: int = 0
) -> tuple[float, float]:
    """What a call costs: its input and its output, in USD."""
    usage = price.charge(
        input_tokens=input_tokens,
        cached_input_tokens=cached,
        output_tokens=output_tokens,
        reasoning_tokens=reasoning,
    )
    assert (usage.input_tokens, usage.cached_input_tokens) == (input_tokens, cached)
    assert (usage.output_tokens, usage.reasoning_tokens) == (output_tokens, reasoning)
    assert usage.cost_usd == usage.input_cost_usd + usage.output_cost_usd
    return round(usage.input_cost_usd, 12), round(usage.output_cost_usd, 12)


def test_rates_are_usd_per_million_tokens() -> None:
    price = Price(input=2.5, output=10.0)
    assert costs(price, input_tokens=MILLION, output_tokens=MILLION) == (2.5, 10.0)
    assert costs(price, input_tokens=1200, output_tokens=300) == (0.003, 0.003)
    assert costs(price) == (0, 0)


def test_cached_input_has_its_own_rate() -> None:
    price = Price(input=2.5, output=10.0, cached_input=1.25)
    # 600,000 × 2.50 + 400,000 × 1.25 = 1.50 + 0.50
    assert costs(price, input_tokens=MILLION, cached=400_000) == (2.0, 0)
    assert costs(price, input_tokens=MILLION, cached=MILLION) == (1.25, 0)


def test_cached_input_without_a_rate_costs_what_input_does() -> None:
    assert costs(Price(input=2.5, output=10.0), input_tokens=MILLION, cached=400_000) == (2.5, 0)


def test_free_cached_input_is_free() -> None:
    assert costs(Price(input=2.5, output=10.0, cached_input=0.0), input_tokens=MILLION, cached=MILLION) == (0, 0)


def test_reasoning_has_its_own_rate_or_the_outputs() -> None:
    # 40,000 × 10 + 60,000 × 20 = 0.40 + 1.20
    dear = Price(input=2.5, output=10.0, reasoning=20.0)
    assert costs(dear, output_tokens=100_000, reasoning=60_000) == (0, 1.6)
    assert costs(Price(input=2.5, output=10.0), output_tokens=100_000, reasoning=60_000) == (0, 1.0)


def test_above_a_threshold_the_whole_call_is_charged_the_tiers_rates() -> None:
    tier = PriceTier(above_tokens=200_000, input=2.5, output=15.0, cached_input=0.25)
    price = Price(input=1.25, output=10.0, cached_input=0.125, tiers=(tier,))
    assert costs(price, input_tokens=200_000, output_tokens=1000) == (0.25, 0.01)
    # 200,001 × 2.50 = 0.5000025
    assert costs(price, input_tokens=200_001, output_tokens=1000) == (0.5000025, 0.015)
    # 300,000 × 2.50 + 100,000 × 0.25 = 0.75 + 0.025
    assert costs(price, input_tokens=400_000, cached=100_000) == (0.775, 0)
    assert costs(price, input_tokens=200_001, output_tokens=1000, reasoning=1000) == (0.5000025, 0.015)


def test_of_several_tiers_the_highest_that_is_exceeded_counts() -> None:
    tiers = (PriceTier(100, input=2.0, output=2.0), PriceTier(1000, input=3.0, output=3.0))
    price = Price(input=1.0, output=1.0, cached_input=0.5, tiers=tiers)
    assert costs(price, input_tokens=100) == (0.0001, 0)
    assert costs(price, input_tokens=1000) == (0.002, 0)
    assert costs(price, input_tokens=1001) == (0.003003, 0)


def test_a_tier_without_a_rate_for_cached_input_charges_its_input_rate() -> None:
    price = Price(input=1.0, output=1.0, cached_input=0.5, tiers=(PriceTier(100, input=2.0, output=2.0),))
    assert costs(price, input_tokens=1000, cached=1000) == (0.002, 0)


def test_tiers_of_the_table_are_charged() -> None:
    price = registry(EVERY_KEY).resolve("gemini/gemini-2.5-pro").price
    assert price is not None
    # Google's list: 1.25 in and 10 out, above 200,000 tokens 2.50 and 15; cached 0.125 and 0.25.
    assert costs(price, input_tokens=200_000, output_tokens=10_000) == (0.25, 0.1)
    assert costs(price, input_tokens=200_001) == (0.5000025, 0)
    assert costs(price, input_tokens=300_000, cached=100_000, output_tokens=10_000) == (0.525, 0.15)


def test_a_tiers_rate_for_reasoning_is_charged() -> None:
    table = orjson.loads((ROOT / "app" / "swarmstream" / "llm" / "prices.json").read_bytes())["models"]
    name = "dashscope/qwen-plus-latest"
    tier = table[name]["tiers"][-1]
    price = registry(EVERY_KEY).resolve(name).price
    assert price is not None
    charged = costs(price, input_tokens=tier["above"] + 1, output_tokens=MILLION, reasoning=MILLION)
    assert charged[1] == tier["reasoning"]


# --- What is on offer -----------------------------------------------------------------------------------------------


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


async def test_details_tell_what_aliases_stand_for_and_nothing_of_how_it_is_reached(tmp_path: Path) -> None:
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


def test_whatever_is_on_offer_can_be_called() -> None:
    models = registry(EVERY_KEY)
    refusals: list[str] = []
    for name in models.names():
        try:
            models.resolve(name)
        except AppError as error:
            refusals.append(error.detail)
    assert refusals == []


# --- litellm --------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_app_is_imported_without_litellm() -> None:
    process = run("-c", "import swarmstream.main, sys; assert 'litellm' not in sys.modules")
    assert process.returncode == 0, process.stderr


def test_the_tables_are_what_the_installed_litellm_yields_and_we_would_send_what_it_does() -> None:
    command = [sys.executable, ROOT / "scripts" / "models", "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert checked.returncode == 0, checked.stderr
