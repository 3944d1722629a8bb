"""Request fields that families of models refuse, by the models' names.

Sources: OpenAI's guide to reasoning models and its deployment checklist, Anthropic's notes on Claude 4.7 and 5, and the
locked litellm (`responses_api_bridge_check`, `OpenAIGPT5Config`, `OpenAIOSeriesConfig`, `supports_sampling_params` and
`default_reasoning_effort` in its table). The rest is learnt from refusals
(`swarmstream.engine.omissions`).
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from swarmstream.llm.credentials import first_set
from swarmstream.llm.model_table import providers
from swarmstream.llm.traits import PLAIN, Traits

_SAMPLING = frozenset(["temperature", "top_p", "logprobs", "top_logprobs"])
_PENALTIES = frozenset(["frequency_penalty", "presence_penalty", "logit_bias"])

_ALWAYS_REASONS = Traits(refuses=_SAMPLING | _PENALTIES, takes_thinking_tokens=False)
_REASONS_ON_REQUEST = Traits(
    refuses=_PENALTIES,
    refuses_thinking=_SAMPLING,
    reasons_by_default=False,
    takes_effort_none=True,
    takes_thinking_tokens=False,
)
_REASONS_BY_DEFAULT = replace(_REASONS_ON_REQUEST, reasons_by_default=True, tools_in_chat="without_reasoning")
_CLAUDE = Traits(refuses=_PENALTIES | {"seed", "logprobs", "top_logprobs"})
_CLAUDE_WITHOUT_SAMPLING = Traits(refuses=_CLAUDE.refuses | _SAMPLING, takes_thinking_tokens=False)

_OPENAIS: tuple[tuple[str, Traits], ...] = (
    ("gpt-5-chat*", PLAIN),
    ("gpt-5*-pro*", _ALWAYS_REASONS),
    ("gpt-5*-codex*", _ALWAYS_REASONS),
    ("gpt-5*-chat-latest", _ALWAYS_REASONS),
    ("gpt-5*-search*", _ALWAYS_REASONS),
    ("gpt-5.[1-9][0-9]*", _REASONS_BY_DEFAULT),
    ("gpt-5.[123]*", _REASONS_ON_REQUEST),
    ("gpt-5.4*", replace(_REASONS_ON_REQUEST, tools_in_chat="without_reasoning")),
    ("gpt-5.[5-9]*", _REASONS_BY_DEFAULT),
    ("gpt-5", _ALWAYS_REASONS),
    ("gpt-5-*", _ALWAYS_REASONS),
    ("gpt-6-astra*", replace(_ALWAYS_REASONS, tools_in_chat="never")),
    ("gpt-6.[1-9]*", replace(_ALWAYS_REASONS, tools_in_chat="never")),
    ("gpt-6*", _REASONS_BY_DEFAULT),
    *((name, _ALWAYS_REASONS) for series in ("o1", "o3", "o4") for name in (series, f"{series}-*")),
)
"""The first pattern that matches counts."""

_CLAUDES: tuple[tuple[str, Traits], ...] = (
    *(
        (f"claude-{generation}*", _CLAUDE_WITHOUT_SAMPLING)
        for generation in ("opus-4[.-][7-9]", "opus-[5-9]", "sonnet-[5-9]", "haiku-[5-9]", "fable-", "mythos-")
    ),
    ("claude-*", _CLAUDE),
)

_CLAUDES_NAME = re.compile(r"(?:.*anthropic[./]|anthropic-|databricks-|us-gov-[a-z]+-1/)?(claude-.*)")
"""Names at Bedrock, routers and some others. Models that others have trained on its answers are named after it, too."""


_OPENAI_HOST = "api.openai.com"
_OPENAIS_URL = re.compile(rf"https?://([^/?#@]*\.)?{re.escape(_OPENAI_HOST)}(:\d+)?([/?#]|$)", re.IGNORECASE)
"""OpenAI's own address, or one of a region's."""


def model_traits(target: str, provider: str, *, environ: Mapping[str, str], api_base: str | None = None) -> Traits:
    """Return the traits of a model at the server that it is called at.

    OpenAI's and Azure's own servers alone insist on where tools are taken: other servers with a model of that name have
    nothing but chat completions.
    """
    traits = family_traits(target.removeprefix(f"{provider}/"))
    if provider == "azure" or (provider == "openai" and _is_openais(api_base, environ)):
        return traits
    return traits if traits.tools_in_chat == "always" else replace(traits, tools_in_chat="always")


def _is_openais(api_base: str | None, environ: Mapping[str, str]) -> bool:
    if api_base is None:
        variable = first_set(providers()["openai"]["base_url_variables"], environ)
        api_base = environ[variable] if variable else f"https://{_OPENAI_HOST}"
    return _OPENAIS_URL.match(api_base) is not None


def family_traits(name: str) -> Traits:
    """Return the traits of a model, by its name without its provider."""
    name = name.lower()
    families, model = _OPENAIS, name.rpartition("/")[2].removeprefix("ft:")
    if (claudes := _CLAUDES_NAME.fullmatch(name)) is not None:
        families, model = _CLAUDES, claudes[1]
    return next((traits for pattern, traits in families if fnmatchcase(model, pattern)), PLAIN)
