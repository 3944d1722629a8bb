"""The execution of plans: stages of agents, their turns, the model calls and tool calls of a turn."""
