"""The shapes of usage: what turns and runs consumed."""

from typing_extensions import TypedDict


class AgentUsageRow(TypedDict):
    """What one agent consumed, in tokens and USD."""

    agent: str
    """The agent's name."""
    turns: int
    """How many turns the agent had, failed and cancelled ones included."""
    input_tokens: int
    """Tokens that were sent to models, the cached ones included."""
    output_tokens: int
    """Tokens that came from models, those of their thinking included."""
    cached_input_tokens: int
    """Of the input tokens, those that the provider had in its cache."""
    reasoning_tokens: int
    """Of the output tokens, those of the model's thinking."""
    cost_usd: float
    """What that cost, in USD; a model without a known price counts 0."""


class RunUsage(TypedDict):
    """What both kinds of usage have in common. `priced` is false where a model has no known price and counts 0;
    `estimated` is true where a provider gave no figures and we counted."""

    input_tokens: int
    """Tokens that were sent to models, the cached ones included."""
    output_tokens: int
    """Tokens that came from models, those of their thinking included."""
    total_tokens: int
    """Input and output tokens together."""
    agents: list[AgentUsageRow]
    """The same by agent."""
    priced: bool
    """False where some model has no known price, so that its cost counts 0."""
    estimated: bool
    """True where a provider gave no figures, so that tokens were counted here."""


class AgentRunUsage(RunUsage):
    """Usage on the agent route. Costs are USD."""

    img_cost: float
    """The hosted API's price of images, in USD: always 0 here, since providers count them as tokens."""
    total_cost: float
    """What the run cost, in USD."""


class TokenCounts(TypedDict):
    total_input_tokens: int
    """Tokens that were sent to models."""
    total_output_tokens: int
    """Tokens that came from models."""
    total_tokens: int
    """Both together."""


class CostBreakdown(TypedDict):
    agent_cost: float
    """The hosted API's fee for agents, in USD: always 0 here."""
    input_token_cost: float
    """What the input tokens cost, in USD."""
    output_token_cost: float
    """What the output tokens cost, in USD."""
    token_counts: TokenCounts
    """The tokens that were paid for."""
    num_agents: int
    """How many agents spoke."""
    night_time_discount_applied: bool
    """Always false: there is no discount here."""


class BillingInfo(TypedDict):
    """The hosted API's bill, in USD; this server sells nothing, so there are no discounts and no fee for agents."""

    cost_breakdown: CostBreakdown
    """What the bill is made of."""
    total_cost: float
    """What the run cost, in USD."""
    discount_active: bool
    """Always false: there is no discount here."""
    discount_type: str
    """Always `none`."""
    discount_percentage: int
    """Always 0."""


class SwarmRunUsage(RunUsage):
    """Usage on the swarm route."""

    billing_info: BillingInfo
    """The bill."""


class TurnUsage(TypedDict):
    """What one turn consumed."""

    input_tokens: int
    """Tokens that were sent to models, the cached ones included."""
    output_tokens: int
    """Tokens that came from models, those of their thinking included."""
    total_tokens: int
    """Input and output tokens together."""
    cached_input_tokens: int
    """Of the input tokens, those that the provider had in its cache."""
    reasoning_tokens: int
    """Of the output tokens, those of the model's thinking."""
    cost_usd: float
    """What that cost, in USD; a model without a known price counts 0."""
    priced: bool
    """False where some model has no known price, so that its cost counts 0."""
    estimated: bool
    """True where a provider gave no figures, so that tokens were counted here."""
