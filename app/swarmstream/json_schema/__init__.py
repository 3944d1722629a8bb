"""JSON Schema: values are validated, at a bounded cost."""
