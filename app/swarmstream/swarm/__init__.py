"""Payloads and the plans that they become: pure, no I/O, no async.

    payloads ──> compile ─┬─> agents: models, tools, formats ─┬──> plan
                          └─> swarm_types: stages ────────────┘

`prompts` makes a turn's messages; `findings` and `ignored_fields` become the `warnings` that clients get.
"""
