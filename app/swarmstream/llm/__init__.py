"""Models behind one port, `swarmstream.llm.base.ChatModel`."""
