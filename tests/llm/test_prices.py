"""Prices: the cost of a call by the rates of an alias or of the table."""

import orjson

from swarmstream.llm.model_ref import Price, PriceTier
from tests.llm.registries import EVERY_KEY, MILLION, ROOT, registry


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


def test_cached_input_without_a_rate_has_the_rate_of_input() -> None:
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
