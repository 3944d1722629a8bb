"""The ways to reach models, one module or package for each."""
