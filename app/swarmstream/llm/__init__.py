"""Models behind one port, `swarmstream.llm.base.ChatModel`.

`registry` makes a `ModelRef` of a name, by `aliases`, `provider_names`, `credentials`, `chat_endpoints` and
`model_table`. `providers` are the backends, one of which the `ModelRef` names; `http` has the connections of the direct
one. `families` and `traits` say which fields a model refuses.
"""
