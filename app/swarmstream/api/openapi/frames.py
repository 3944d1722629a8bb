"""The events of each route, with the shapes of their `data`."""

from swarmstream.wire.shapes import events

_SHARED_FRAMES: dict[str, type] = {
    "start": events.StartFrame,
    "agent_start": events.AgentStartFrame,
    "turn_restart": events.TurnRestartFrame,
    "chunk": events.ChunkFrame,
    "reasoning": events.ReasoningFrame,
    "tool_start": events.ToolStartFrame,
    "tool_end": events.ToolEndFrame,
    "custom": events.CustomFrame,
    "agent_end": events.AgentEndFrame,
    "error": events.ErrorFrame,
}
AGENT_FRAMES: dict[str, type] = {
    "metadata": events.AgentMetadataFrame,
    **_SHARED_FRAMES,
    "usage": events.AgentUsageFrame,
    "end": events.AgentRunEndFrame,
}
"""The shape of each event's `data` on the agent route."""
SWARM_FRAMES: dict[str, type] = {
    "metadata": events.SwarmMetadataFrame,
    **_SHARED_FRAMES,
    "usage": events.SwarmUsageFrame,
    "end": events.SwarmEndFrame,
}
"""The shape of each event's `data` on the swarm route."""
