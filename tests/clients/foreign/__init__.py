"""Other people's clients against this server: `scripts/clients`, and in the suite those that are light."""
