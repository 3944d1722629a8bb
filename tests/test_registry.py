"""Which models can be called here, what they cost, and which names are refused before anything is sent."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from app.errors import AppError, NoCredentials, UnknownModel
from app.llm.aliases import Alias, AliasError, AliasPrice, aliases_of, read_aliases
from app.llm.registry import Registry
from app.settings import Settings
from app.swarm.models import Price, PriceTier

ROOT = Path(__file__).resolve().parent.parent
PROVIDERS = orjson.loads((ROOT / "app" / "llm" / "providers.json").read_bytes())["providers"]

EVERY_KEY = {name: "key" for facts in PROVIDERS.values() for way in facts["credentials"] for name in way}
"""An environment with the credentials of every provider."""

MILLION = 1_000_000


def registry(environ: dict[str, str] | None = None) -> Registry:
    return aliased({}, environ)


def aliased(aliases: dict[str, Alias], environ: dict[str, str] | None = None) -> Registry:
    return Registry(default_model="gpt-4.1-mini", environ=environ or {}, aliases=aliases)


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
    assert (ref.lane, ref.target, ref.price) == ("demo", "swarm", Price(input=0.0, output=0.0))


def test_an_api_base_of_its_own_needs_no_credentials_of_the_provider() -> None:
    ref = aliased({"house": local("llama")}).resolve("house")
    assert (ref.lane, ref.target) == ("litellm", "openai/llama")
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
    assert aliased(aliases).resolve("whatever").lane == "demo"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[house\n", "TOML"),
        ("house = 1\n", "house"),
        ("[house]\n", "house.model"),
        ('[house]\nmodel = "openai/x"\napi_bass = "http://localhost"\n', "house.api_bass"),
        ('[house]\nmodel = "openai/x"\nprice = { input = -1, output = 1 }\n', "house.price.input"),
        ('[house]\nmodel = "openai/x"\nprice = { input = 1 }\n', "house.price.output"),
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
    aliases = aliases_of(Settings.model_construct(models_file=path, model_aliases=short))
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
    assert (ref.lane, ref.target) == ("litellm", target)
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
        ("azure/x", {"AZURE_OPENAI_API_KEY": "k", "AZURE_API_BASE": "b"}),
        ("ollama/llama3", {}),
    ],
)
def test_any_way_to_hold_credentials_is_enough(name: str, environ: dict[str, str]) -> None:
    assert registry(environ).resolve(name).lane == "litellm"


def test_another_providers_key_is_not_enough() -> None:
    refused(NoCredentials, "groq/anything", registry({"OPENAI_API_KEY": "key"}))


def test_the_demo_model_needs_nothing() -> None:
    ref = registry().resolve("demo/swarm")
    assert (ref.lane, ref.target) == ("demo", "swarm")


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
    table = orjson.loads((ROOT / "app" / "llm" / "prices.json").read_bytes())["models"]
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
    process = run("-c", "import app.main, sys; assert 'litellm' not in sys.modules")
    assert process.returncode == 0, process.stderr


def test_the_tables_are_what_the_installed_litellm_yields() -> None:
    process = run("scripts/models", "--check")
    assert process.returncode == 0, process.stderr
