"""JSON Schema: values are validated, and what that may cost is bounded."""
