"""The execution of plans: stages of agents, their turns, the model calls and tool calls of a turn (docs/engine.md).

    stages ──> turn ─┬─> model_calls ──> reply_stream ──> the run's events
                     ├─> tool_calls, toolsets, handoff
                     └─> planning, final_answer

`transcript` is what a turn reads of earlier ones, `replay` what a resumed run knows of them. A call holds its part of
`budget`, `run_calls` and `prompt_room` as one `allowance`. `run_context` is what the turns of a run share, `recorder`
the port by which events leave.
"""
