"""Models through litellm."""
