"""What can go wrong with a tool: while it is defined, while it is loaded, while a model calls it."""


class ToolError(Exception):
    """A call failed. The text is for the model, which may do better; a tool may raise it with words of its own."""


class ToolDefinitionError(Exception):
    """Something cannot be offered to models as a tool. The text is for whoever wrote it."""


class ToolLoadError(Exception):
    """A tool of the operator's cannot be offered. The text names the reference that it was given by."""
