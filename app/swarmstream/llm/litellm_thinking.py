"""Asks models that hide their thinking for summaries of it: without them an agent that thinks is silent.

What is asked for is what litellm's own tables say the model takes. A provider may refuse it all the same (OpenAI to
organizations that are not verified): the call is made once more without it then, and so are the model's later ones.
"""

import importlib
from typing import Any, Final

_BY_RESPONSES: Final = {"store": False, "include": ["reasoning.encrypted_content"]}
"""As with chat completions nothing is kept at OpenAI's: thoughts go back with the results of tools, encrypted."""

_WORDS = (
    "summar",
    "display",
    "adaptive",
    "includethoughts",
    "include_thoughts",
    "thinking is",
    "encrypted",
    "'include'",
    "'store'",
)
"""What a refusal names that is about the summaries."""

_MAX_REFUSING = 1000


class Summaries:
    """What is asked of each model beside what the client asks."""

    def __init__(self) -> None:
        self._refusing: dict[str, None] = {}

    def asked(self, litellm: Any, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments that change, of those for `litellm.acompletion`; none for a model that has refused them."""
        if arguments["model"] in self._refusing:
            return {}
        provider, _, model = arguments["model"].partition("/")
        if provider in ("openai", "azure"):
            return _of_openai(litellm, provider, model, arguments)
        if "claude" in model and provider in ("anthropic", "vertex_ai"):
            return _of_claude(provider, model, arguments)
        if "gemini" in model and provider in ("gemini", "vertex_ai"):
            return _of_gemini(litellm, provider, model, arguments)
        return {}

    def are_refused(self, model: str, status: int | None, words: str) -> bool:
        """Whether a provider's refusal is of what was asked beside the rest; remembers the model then."""
        if status != 400 or not any(word in words.lower() for word in _WORDS):
            return False
        if len(self._refusing) >= _MAX_REFUSING:
            del self._refusing[next(iter(self._refusing))]
        self._refusing[model] = None
        return True


def _of_openai(litellm: Any, provider: str, model: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Only responses have summaries; whether litellm asks for one instead of a chat completion is its decision."""
    effort = arguments.get("reasoning_effort")
    main: Any = importlib.import_module("litellm.main")
    details, name = main.responses_api_bridge_check(
        model=model,
        custom_llm_provider=provider,
        tools=arguments.get("tools"),
        reasoning_effort=effort,
        api_base=arguments.get("api_base"),
    )
    if details.get("mode") != "responses":
        return {}
    if effort == "none" or not (effort or litellm.supports_reasoning(name, provider)):
        return {"store": False}
    reasoning = {"effort": effort, "summary": "auto"} if effort else {"summary": "auto"}
    return {**_BY_RESPONSES, "reasoning_effort": reasoning}


def _of_claude(provider: str, model: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """With an effort litellm asks by itself."""
    if "reasoning_effort" in arguments:
        return {}
    info: Any = importlib.import_module("litellm.llms.anthropic.common_utils").AnthropicModelInfo
    if not info._is_adaptive_thinking_model(model, provider) or info._supports_legacy_thinking(model, provider):
        return {}
    thinking = arguments.get("thinking")
    if thinking is None and info._is_always_on_thinking_model(model, provider):
        thinking = {"type": "adaptive"}
    return {"thinking": {**thinking, "display": "summarized"}} if thinking else {}


def _of_gemini(litellm: Any, provider: str, model: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """With an effort or a budget litellm asks by itself."""
    if "reasoning_effort" in arguments or "thinking" in arguments or not litellm.supports_reasoning(model, provider):
        return {}
    return {"thinking": {"type": "enabled"}}
