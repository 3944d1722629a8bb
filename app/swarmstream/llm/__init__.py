"""How models are reached: one protocol, one module per way."""
