"""Summaries of thinking, requested from models that hide it: without them an agent that thinks is silent.

litellm's own tables tell which arguments a model takes. A provider may refuse them all the same (OpenAI to
organizations that are not verified): the call is made once more without what it refuses, and if that works, so are the
model's calls of the next hour.
"""

import importlib
import json
import re
from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import Any, Final, cast

from swarmstream.clock import SYSTEM_CLOCK, Clock

REMEMBERED_SECONDS: Final = 3600.0
MAX_REMEMBERED: Final = 1000

_SUMMARY = "reasoning_effort"
"""The argument that holds OpenAI's `reasoning`, with the request for a summary."""
_SEALED = "include"
"""The argument that makes thoughts come encrypted, to be sent back with the results of tools: nothing is kept there."""
_THINKING = "thinking"
"""The argument for Claude and Gemini."""

_OPENAIS = ("openai", "azure", "azure_ai")

_SUMMARY_PARAMS = ("reasoning", "reasoning.summary", "reasoning.generate_summary")

_QUOTED = re.compile(r"""(?<!\w)'[^']*'(?!\w)|"[^"]*"|`[^`]*`|\[[^]]*]""")
"""Quotations: refusals repeat what was sent."""

_ABOUT_THINKING = re.compile(
    r"\badaptive thinking\b|(?<![\w.])thinking(?:\.\w+)*:|\bthinking is not\b"
    r"|\bthinking[ _]?(?:config|level|budget)|\binclude_?thoughts\b",
    re.IGNORECASE,
)
_UNKNOWN_TO_GEMINI = re.compile(r"""Unknown name "\w+" at 'generation_config\.thinking_config""")

_Key = tuple[str, str | None]


class Summaries:
    """The arguments that are added to a client's, and a memory of those that models have refused."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._refused: OrderedDict[tuple[_Key, str], float] = OrderedDict()
        """Arguments that models have refused, and when each is forgotten: the last `MAX_REMEMBERED`."""

    def __len__(self) -> int:
        return len(self._refused)

    def arguments(self, litellm: Any, arguments: dict[str, Any], without: Collection[str] = ()) -> dict[str, Any]:
        """Return the arguments of `litellm.acompletion` to add or change, without `without` and without those that the
        model has lately refused."""
        key, now = _key(arguments), self._clock.now()
        added = _summary_arguments(litellm, arguments)
        return {
            name: value
            for name, value in added.items()
            if name not in without and self._refused.get((key, name), now) <= now
        }

    def remember(self, arguments: dict[str, Any], refused: Iterable[str]) -> None:
        """Leave these out for an hour: the model has answered without them."""
        until = self._clock.now() + REMEMBERED_SECONDS
        for name in refused:
            self._refused[_key(arguments), name] = until
            self._refused.move_to_end((_key(arguments), name))
            if len(self._refused) > MAX_REMEMBERED:
                self._refused.popitem(last=False)


def refused_argument(added: Collection[str], status: int | None, text: str) -> str | None:
    """Return the one of the added arguments that a provider's refusal is about; None if it is about something else."""
    if status != 400:
        return None
    error = _error_in(text)
    param, message = error.get("param"), error.get("message")
    if isinstance(param, str):
        found = _SUMMARY if param in _SUMMARY_PARAMS else param.partition("[")[0]
        return found if found in added and found != _THINKING else None
    message = message if isinstance(message, str) else text
    is_about = _UNKNOWN_TO_GEMINI.search(message) or _ABOUT_THINKING.search(_QUOTED.sub("", message))
    return _THINKING if _THINKING in added and is_about else None


def _error_in(text: str) -> dict[str, Any]:
    """Return the error object that a provider sent, within the text that litellm made of it; empty if there is none."""
    try:
        found: Any = json.JSONDecoder().raw_decode(text, text.index("{"))[0]
    except (ValueError, RecursionError):
        return {}
    error: Any = cast(dict[str, Any], found).get("error", found)
    return cast(dict[str, Any], error) if isinstance(error, dict) else {}


def _key(arguments: dict[str, Any]) -> _Key:
    return arguments["model"], arguments.get("api_base")


def _summary_arguments(litellm: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    provider, _, model = arguments["model"].partition("/")
    if provider in _OPENAIS:
        return _for_openai(litellm, provider, model, arguments)
    if "claude" in model and provider in ("anthropic", "vertex_ai"):
        return _for_claude(provider, model, arguments)
    if "gemini" in model and provider in ("gemini", "vertex_ai"):
        return _for_gemini(litellm, provider, model, arguments)
    return {}


def _for_openai(litellm: Any, provider: str, model: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Request a summary where litellm calls OpenAI's responses instead of chat completions: only these have summaries.

    Models whose names tell nothing, such as Azure's deployments, get the request, too.
    """
    effort = arguments.get("reasoning_effort")
    main: Any = importlib.import_module("litellm.main")
    details, name = main.responses_api_bridge_check(
        model=model,
        custom_llm_provider=provider,
        tools=arguments.get("tools"),
        reasoning_effort=effort,
        api_base=arguments.get("api_base"),
    )
    if details.get("mode") != "responses" or effort == "none":
        return {}
    is_known = any(known in litellm.model_cost for known in (name, f"{provider}/{name}"))
    if is_known and not effort and not litellm.supports_reasoning(name, provider):
        return {}
    reasoning = {"effort": effort, "summary": "auto"} if effort else {"summary": "auto"}
    return {_SEALED: ["reasoning.encrypted_content"], _SUMMARY: reasoning}


def _for_claude(provider: str, model: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Request a summary of adaptive thinking; with an effort litellm does that by itself."""
    if "reasoning_effort" in arguments:
        return {}
    info: Any = importlib.import_module("litellm.llms.anthropic.common_utils").AnthropicModelInfo
    if not info._is_adaptive_thinking_model(model, provider) or info._supports_legacy_thinking(model, provider):
        return {}
    thinking = arguments.get("thinking")
    if thinking is None and info._is_always_on_thinking_model(model, provider):
        thinking = {"type": "adaptive"}
    return {_THINKING: {**thinking, "display": "summarized"}} if thinking else {}


def _for_gemini(litellm: Any, provider: str, model: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Request thoughts; with an effort or a budget litellm does that by itself."""
    if "reasoning_effort" in arguments or "thinking" in arguments or not litellm.supports_reasoning(model, provider):
        return {}
    return {_THINKING: {"type": "enabled"}}
