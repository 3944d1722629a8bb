"""The refusal of a JSON schema."""


class SchemaError(ValueError):
    """The schema cannot be used. The text is for its author."""
