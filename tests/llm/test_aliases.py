"""Aliases: names of the operator's own for models, addresses, keys and prices."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from swarmstream.errors import NoCredentials, UnknownModel
from swarmstream.llm.aliases import Alias, AliasError, AliasPrice, load_aliases, read_aliases
from swarmstream.llm.model_ref import Price
from swarmstream.settings import Settings
from tests.llm.registries import aliased, local, refused, registry


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


def test_globs_are_case_sensitive() -> None:
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
