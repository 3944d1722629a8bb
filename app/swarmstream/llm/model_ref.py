"""A model in a plan: its backend, its endpoint, its price."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

from swarmstream.events import Usage
from swarmstream.llm.traits import PLAIN, Traits

_PER_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens. A missing rate is that of plain input or output."""

    input: float
    output: float
    cached_input: float | None = None
    reasoning: float | None = None
    tiers: tuple["PriceTier", ...] = ()

    def charge(
        self, *, input_tokens: int, cached_input_tokens: int, output_tokens: int, reasoning_tokens: int
    ) -> Usage:
        """Return the usage with its costs. Above a tier's threshold its rates apply to the whole call."""
        rates: Price | PriceTier = self
        for tier in self.tiers:
            if input_tokens > tier.above_tokens:
                rates = tier
        cached_rate = rates.input if rates.cached_input is None else rates.cached_input
        reasoning_rate = rates.output if rates.reasoning is None else rates.reasoning
        uncached = max(0, input_tokens - cached_input_tokens)
        text = max(0, output_tokens - reasoning_tokens)
        return Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_input_tokens=cached_input_tokens,
            reasoning_tokens=reasoning_tokens,
            input_cost_usd=(uncached * rates.input + cached_input_tokens * cached_rate) / _PER_MILLION,
            output_cost_usd=(text * rates.output + reasoning_tokens * reasoning_rate) / _PER_MILLION,
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
    """A provider's endpoint for OpenAI's chat completions. It holds names of variables, never a key."""

    url: str
    """The whole address that a request is posted to."""
    model: str
    """The model's name as it stands in the request."""
    key_env: str | None = None
    """The variable that holds the key; None: no key is sent."""
    key_header: str = "authorization"
    """The header that takes the key: `authorization` as a bearer token (RFC 6750), any other as it is."""
    headers: tuple[tuple[str, str], ...] = ()
    """More headers, such as an organization's; no secrets."""
    renames: tuple[tuple[str, str], ...] = ()
    """Fields of a request that this model knows under another name."""
    extra: tuple[tuple[str, Any], ...] = ()
    """Fields of every request beside the agent's, such as `stream_options`."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model that this server can call. It holds the name of a key's variable, never a key."""

    name: str
    """The client's name for it."""
    target: str
    """The backend's name for it: a litellm name, or the part after `demo/`."""
    backend: str
    """The backend's name: a key of the server's `ModelBackends`; `lane` on the wire."""
    api_base: str | None = None
    api_key_env: str | None = None
    endpoint: ChatEndpoint | None = None
    """Set if the backend is `direct`."""
    price: Price | None = None
    """None if it is unknown: the cost counts 0 and is marked so."""
    max_output_tokens: int | None = None
    takes_schemas: bool = True
    """True if the provider holds the model to a JSON schema; others get the schema in their instructions."""
    traits: Traits = PLAIN
    direct_only: bool = False
    """True if the operator allows the direct backend only."""

    def for_tools(self, effort: str | None) -> "ModelRef | None":
        """Return the model with a backend on which it takes tools at this effort; None if that is not allowed."""
        if self.backend != "direct" or self.traits.takes_tools(effort):
            return self
        return None if self.direct_only else replace(self, backend="litellm", endpoint=None)


class ModelRegistry(Protocol):
    """The models that this server can call."""

    @property
    def default_model(self) -> str: ...

    def resolve(self, name: str) -> ModelRef:
        """Return the model behind a name or an alias.

        Raises:
            UnknownModel: no provider can be told from the name.
            NoCredentials: the provider's key variable is not set; the message names it.
        """
        ...
