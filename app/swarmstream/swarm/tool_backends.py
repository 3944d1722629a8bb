"""The backends by which an agent's models take its tools."""

from dataclasses import replace

from swarmstream.errors import Location, UnsupportedOption, quote
from swarmstream.llm.model_ref import ModelRef
from swarmstream.llm.traits import EFFORT, NO_EFFORT
from swarmstream.swarm.plan import Agent


def with_tool_backends(agent: Agent, at: Location) -> Agent:
    """Return the agent with each model on a backend by which it takes tools, if the agent has any.

    Raises:
        UnsupportedOption: a model takes them through litellm only, which the operator does not allow.
    """
    if not agent.has_tools:
        return agent
    models: list[ModelRef] = []
    for index, model in enumerate(agent.models):
        effort = agent.sampling.fields(model).fields.get(EFFORT)
        with_tools = model.for_tools(effort)
        if with_tools is None:
            otherwise = (
                f' unless {EFFORT} is "{NO_EFFORT}"' if model.traits.tools_in_chat == "without_reasoning" else ""
            )
            raise UnsupportedOption(
                f"{quote(model.name)} takes tools through litellm only{otherwise}, and litellm is ruled out here "
                "(SWARMSTREAM_LANE, or the alias's lane)",
                location=(*at, "fallbacks", index - 1) if index else (*at, "model_name"),
            )
        models.append(with_tools)
    return replace(agent, models=tuple(models))
