"""The demo model: no provider, no key, no cost."""
