"""The failures of a tool: while it is defined, while it is loaded, while a model calls it."""


class ToolError(Exception):
    """A failed call. The text is for the model; a tool may raise it with a text of its own."""


class ToolDefinitionError(Exception):
    """Something that models cannot be offered as a tool. The text is for its author."""


class ToolLoadError(Exception):
    """A tool of the operator's that cannot be offered. The text names its reference."""
