"""What a plan knows of a model: how it is reached, what it costs."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

from swarmstream.events import Usage
from swarmstream.llm.traits import PLAIN, Traits

_PER_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens. What a table leaves out costs what plain input or output does."""

    input: float
    output: float
    cached_input: float | None = None
    reasoning: float | None = None
    tiers: tuple["PriceTier", ...] = ()

    def charge(
        self, *, input_tokens: int, cached_input_tokens: int, output_tokens: int, reasoning_tokens: int
    ) -> Usage:
        """The usage with its costs. Above a tier's threshold of input tokens the whole call is charged its rates."""
        rates: Price | PriceTier = self
        for tier in self.tiers:
            if input_tokens > tier.above_tokens:
                rates = tier
        cached_rate = rates.input if rates.cached_input is None else rates.cached_input
        reasoning_rate = rates.output if rates.reasoning is None else rates.reasoning
        fresh = max(0, input_tokens - cached_input_tokens)
        spoken = max(0, output_tokens - reasoning_tokens)
        return Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_input_tokens=cached_input_tokens,
            reasoning_tokens=reasoning_tokens,
            input_cost_usd=(fresh * rates.input + cached_input_tokens * cached_rate) / _PER_MILLION,
            output_cost_usd=(spoken * rates.output + reasoning_tokens * reasoning_rate) / _PER_MILLION,
        )


@dataclass(frozen=True, slots=True)
class PriceTier:
    """The rates of a call with more than `above_tokens` input tokens. Thresholds ascend."""

    above_tokens: int
    input: float
    output: float
    cached_input: float | None = None
    reasoning: float | None = None


@dataclass(frozen=True, slots=True)
class ChatEndpoint:
    """Where and how a provider takes OpenAI's chat completions. Holds names of variables, never a key."""

    url: str
    """The whole address that a request is posted to."""
    model: str
    """The model's name as it stands in the request."""
    key_env: str | None = None
    """The variable that holds the key; None: no key is sent."""
    key_header: str = "authorization"
    """The header that takes the key: `authorization` as a bearer token (RFC 6750), any other as it is."""
    headers: tuple[tuple[str, str], ...] = ()
    """More headers, such as an organization's: none of them is a secret."""
    renames: tuple[tuple[str, str], ...] = ()
    """Fields of a request that this model knows under another name."""
    extra: tuple[tuple[str, Any], ...] = ()
    """Fields that every request has beside those that the agent asks for, such as `stream_options`."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model that this server can call. Holds the name of a key's variable, never a key."""

    name: str
    """As the client asked for it."""
    target: str
    """As its lane calls it: a litellm name, or the part after `demo/`."""
    backend: str
    """Which way it is reached: a key of the server's adapters."""
    api_base: str | None = None
    api_key_env: str | None = None
    endpoint: ChatEndpoint | None = None
    """For the direct lane."""
    price: Price | None = None
    """None: nobody told us; its cost counts 0 and is marked so."""
    max_output_tokens: int | None = None
    takes_schemas: bool = True
    """Whether the provider holds the model to a JSON schema; others are told it in words."""
    traits: Traits = PLAIN
    direct_only: bool = False
    """Whether the operator allows the direct lane only."""

    def for_tools(self, effort: str | None) -> "ModelRef | None":
        """The same model by a lane on which it takes function tools with this effort; None where it may not be."""
        if self.backend != "direct" or self.traits.takes_tools(effort):
            return self
        return None if self.direct_only else replace(self, backend="litellm", endpoint=None)


class ModelRegistry(Protocol):
    """Tells which models this server can call."""

    @property
    def default_model(self) -> str: ...

    def resolve(self, name: str) -> ModelRef:
        """The model behind a name or an alias.

        Raises:
            UnknownModel: no provider can be told from the name.
            NoCredentials: the provider's key variable is not set; the message names it.
        """
        ...
