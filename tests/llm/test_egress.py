"""Whom litellm asks, provider by provider: `egress.json` is the list, and nobody else is asked."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from swarmstream.errors import UnknownModel
from swarmstream.llm.provider_names import find_provider
from tests.llm.egress import OUR_FETCHER
from tests.llm.registries import PROVIDERS

HERE = Path(__file__).resolve().parent
EXPECTED: dict[str, dict[str, list[str]]] = orjson.loads((HERE / "egress.json").read_bytes())
IMAGE = "http://pictures.example/cat"
"""Without TLS and without an ending: Anthropic would fetch an https URL, Vertex AI one whose ending tells its kind."""

_URL = re.compile(r"(_API_BASE|_BASE_URL|_ENDPOINT|_AUTH_URL|^(WATSONX|WX|WML)_URL)$")

_MODELS = {
    "bedrock": "anthropic.claude-3-haiku-20240307-v1:0",
    "clarifai": "user.app.probe",
    "huggingface": "org/probe",
    "ragflow": "chat/id/probe",
}
"""Names for providers that read something into them."""

_FURTHER = {
    "cohere": {"api.cohere.ai"},
    "huggingface": {"huggingface.co"},
    "sagemaker_chat": {"runtime.sagemaker.eu-west-1.amazonaws.com"},
}
"""Where a name may lead beside the usual host: another of the provider's own."""

TRICKY_PROVIDERS = [
    *("anthropic", "azure", "azure_ai", "bedrock", "cohere", "gemini", "groq", "huggingface", "mistral", "nvidia_nim"),
    *("ollama", "openrouter", "replicate", "sagemaker_chat", "together_ai", "watsonx_text"),
]
TRICKY_NAMES = [
    "replicate/meta/x",
    "ft:gpt-3.5-turbo",
    "mistral-large-latest",
    "command-r-plus",
    "openai/gpt-4o",
    "huggingface/attacker/x",
    "huggingface/meta-llama/Llama-2-7b",
    "ollama/llama3",
    "text-completion-openai/x",
    "meta-llama/meta-llama-3-8b-instruct",
    "openai/gpt-oss-120b",
    "arn:aws:bedrock:eu-west-1:123456789012:agent/evil",
    "arn:aws:bedrock:eu-west-1.evil.example:123456789012:inference-profile/x",
    "agent/AAAAAAAAAA/BBBBBBBBBB",
    "evil.example:8443/x",
    "@evil.example/x",
    "v1/chat",
]


def _value(name: str) -> str:
    label = name.lower().replace("_", "-")
    return f"https://{label}.invalid" if _URL.search(name) else label


def _environ(provider: str) -> dict[str, str]:
    return {name: _value(name) for name in PROVIDERS[provider]["credentials"][0]}


EVERYTHING = {name: value for provider in PROVIDERS for name, value in _environ(provider).items()}


def _probe(provider: str) -> str:
    return f"{provider}/{_MODELS.get(provider, 'probe')}"


def _is_refused(name: str) -> bool:
    try:
        find_provider(name, environ=EVERYTHING)
    except UnknownModel:
        return True
    return False


INDIRECT = [provider for provider, facts in PROVIDERS.items() if "chat" not in facts]
TRICKY = [(provider, f"{provider}/{name}") for provider in TRICKY_PROVIDERS for name in TRICKY_NAMES]
ACCEPTED = [(provider, name) for provider, name in TRICKY if not _is_refused(name)]


@cache
def _asked() -> tuple[list[list[str]], list[list[str]], list[list[str]]]:
    """Whom every provider asks, whom the indirect ones ask about an image, whom the tricky names that are accepted ask:
    in one process, since importing litellm takes seconds, with nothing else in its environment."""
    plain = [(_probe(provider), _environ(provider), None) for provider in PROVIDERS]
    about_images = [(_probe(provider), _environ(provider), IMAGE) for provider in INDIRECT]
    tricky = [(name, EVERYTHING, None) for _, name in ACCEPTED]
    done = subprocess.run(
        [sys.executable, HERE / "egress.py"],
        input=json.dumps([*plain, *about_images, *tricky]),
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    middle = len(plain) + len(about_images)
    return found[: len(plain)], found[len(plain) : middle], found[middle:]


def _different(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    both = {*found, *expected}
    return {name: (found.get(name), expected.get(name)) for name in both if found.get(name) != expected.get(name)}


def test_every_provider_is_asked_at_the_hosts_of_the_list_and_at_no_others() -> None:
    found, _, _ = _asked()
    assert _different(dict(zip(PROVIDERS, found, strict=True)), EXPECTED["asked"]) == {}


def test_litellm_fetches_no_image_for_any_provider() -> None:
    _, found, _ = _asked()
    assert _different(dict(zip(INDIRECT, found, strict=True)), EXPECTED["asked about an image"]) == {}
    for hosts in found:
        assert OUR_FETCHER not in hosts or hosts == [OUR_FETCHER], "no provider is asked before its image is there"


def test_no_name_sends_a_request_elsewhere_though_every_key_is_set() -> None:
    _, _, found = _asked()
    assert len(ACCEPTED) > len(TRICKY) / 2
    strangers = {
        name: elsewhere
        for (provider, name), hosts in zip(ACCEPTED, found, strict=True)
        if (elsewhere := set(hosts) - set(EXPECTED["asked"][provider]) - _FURTHER.get(provider, set()))
    }
    assert strangers == {}
