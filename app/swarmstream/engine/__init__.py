"""How a plan is carried out: one agent's turn, and stages of them."""
