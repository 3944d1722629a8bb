"""Endpoints of chat completions: the backend, address, key and fields of a model's requests."""

from pathlib import Path
from typing import Any

import pytest

from swarmstream.errors import UnknownModel
from swarmstream.llm.aliases import Alias, AliasError, read_aliases
from swarmstream.llm.model_ref import ChatEndpoint
from tests.conftest import client, serving
from tests.llm.registries import AZURE, EVERY_KEY, PROVIDERS, USAGE, aliased, local, refused, registry


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
def test_providers_with_openais_protocol_are_called_directly(
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
def test_the_part_of_the_path_that_a_base_url_contains_is_not_repeated(base: str) -> None:
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


def test_openai_gets_headers_for_the_organization_and_the_project() -> None:
    environ = {"OPENAI_API_KEY": "key", "OPENAI_ORGANIZATION": "org", "OPENAI_PROJECT_ID": "proj"}
    expected = (("openai-organization", "org"), ("openai-project", "proj"))
    assert endpoint("gpt-4.1-mini", environ).headers == expected
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
def test_an_environment_with_variables_only_litellm_knows_is_left_to_litellm(
    name: str, environ: dict[str, str]
) -> None:
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


def test_a_server_can_be_set_to_call_only_through_litellm() -> None:
    models = aliased({"house": local("x")}, {"OPENAI_API_KEY": "key"}, "litellm")
    for name in ("gpt-4.1-mini", "house"):
        ref = models.resolve(name)
        assert (ref.backend, ref.endpoint) == ("litellm", None)


def test_a_server_can_be_set_to_call_only_directly() -> None:
    models = aliased({}, {"OPENAI_API_KEY": "key", "ANTHROPIC_API_KEY": "key"}, "direct")
    assert models.resolve("gpt-4.1-mini").backend == "direct"
    assert models.resolve("demo/swarm").backend == "demo"
    for name in ("claude-sonnet-4-5", "gpt-5-pro"):
        detail = refused(UnknownModel, name, models)
        assert f'"{name}"' in detail
        assert "litellm" in detail
    assert "gpt-4.1-mini" in models.names()
    assert not {"claude-sonnet-4-5", "gpt-5-pro"} & set(models.names())


async def test_the_server_follows_its_setting_of_the_lane() -> None:
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
def test_an_alias_on_the_direct_lane_for_a_model_without_it_is_refused_at_start(tmp_path: Path, model: str) -> None:
    path = tmp_path / "models.toml"
    path.write_text(f'[house]\nmodel = "{model}"\nlane = "direct"\n')
    with pytest.raises(AliasError, match=f'house: .*"{model}" can only be called through litellm'):
        read_aliases(path)


def test_an_alias_with_an_address_unfit_for_the_direct_lane_is_refused_on_use() -> None:
    models = {"house": Alias(model="azure/x", api_base="https://a.example/openai/v1", lane="direct")}
    assert '"house"' in refused(UnknownModel, "house", aliased(models))
