"""The events of each route, with the shapes of their `data`."""

from swarmstream.wire import shapes

_SHARED_FRAMES: dict[str, type] = {
    "start": shapes.StartFrame,
    "agent_start": shapes.AgentStartFrame,
    "turn_restart": shapes.TurnRestartFrame,
    "chunk": shapes.ChunkFrame,
    "reasoning": shapes.ReasoningFrame,
    "tool_start": shapes.ToolStartFrame,
    "tool_end": shapes.ToolEndFrame,
    "custom": shapes.CustomFrame,
    "agent_end": shapes.AgentEndFrame,
    "error": shapes.ErrorFrame,
}
AGENT_FRAMES: dict[str, type] = {
    "metadata": shapes.AgentMetadataFrame,
    **_SHARED_FRAMES,
    "usage": shapes.AgentUsageFrame,
    "end": shapes.AgentRunEndFrame,
}
"""The shape of each event's `data` on the agent route."""
SWARM_FRAMES: dict[str, type] = {
    "metadata": shapes.SwarmMetadataFrame,
    **_SHARED_FRAMES,
    "usage": shapes.SwarmUsageFrame,
    "end": shapes.SwarmEndFrame,
}
"""The shape of each event's `data` on the swarm route."""
