"""swarmstream: teams of LLM agents over HTTP, every token streamed and tagged with its speaker."""

__version__ = "0.1.0"
