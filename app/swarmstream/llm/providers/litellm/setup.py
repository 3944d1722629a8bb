"""litellm, imported once and restricted to calling the model that it is given.

It does more than that by itself: it fetches price lists, images, chat templates and tokenizers, loads a `.env` file,
asks servers on this machine, repeats requests, switches the verification of certificates off, prints what providers
send. Each of these is switched off here, by its own setting where it has one; `tests/llm/test_egress.py` holds it to
that, provider by provider.
"""

import importlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, NoReturn, cast

_ENVIRONMENT = {
    # Without it litellm fetches its price list from the network.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    # Without it litellm loads the nearest .env file into this process.
    "LITELLM_MODE": "PRODUCTION",
    # Without it litellm downloads the images that clients name; those that are wanted are for `ImageFetcher`.
    "MAX_IMAGE_URL_DOWNLOAD_SIZE_MB": "0",
}
"""Read at import."""

_NEEDED_BY_THE_FIRST_CALL = (
    "openai.resources",
    "litellm.litellm_core_utils.llm_response_utils.response_metadata",
)
"""Modules that litellm imports late, which would stop the event loop for two seconds."""

_importing = threading.Lock()


def import_litellm() -> Any:
    """Import litellm and set it up, once for the process; this takes seconds."""
    with _importing:
        return _imported()


@cache
def _imported() -> Any:
    os.environ.update(_ENVIRONMENT)
    litellm: Any = importlib.import_module("litellm")
    for name in _NEEDED_BY_THE_FIRST_CALL:
        importlib.import_module(name)
    litellm.telemetry = False
    # It warns of what it puts into OpenAI's responses itself.
    warnings.filterwarnings("ignore", "Pydantic serializer warnings", UserWarning)
    # It takes a model that draws a line of dashes for one that is stuck, and breaks the stream off.
    litellm.REPEATED_STREAMING_CHUNK_LIMIT = sys.maxsize
    litellm.suppress_debug_info = True
    _fetch_nothing(litellm)
    _repeat_nothing()
    _verify_always()
    _keep_nothing()
    _stream_always(litellm)
    # It takes a delta that holds nothing but a refusal for an empty one, and drops it.
    wrapper: Any = importlib.import_module("litellm.litellm_core_utils.streaming_handler").CustomStreamWrapper
    wrapper.is_chunk_non_empty = _keeping_refusals(wrapper.is_chunk_non_empty)
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        # Its own handlers print provider texts, keys included; what matters is logged here, through our handler.
        litellm_logger = logging.getLogger(name)
        litellm_logger.handlers.clear()
        litellm_logger.setLevel(logging.CRITICAL)
    return litellm


def _fetch_nothing(litellm: Any) -> None:
    """Prevent every download that a client's model name or message could cause."""
    litellm.disable_hf_tokenizer_download = True
    # It fetches a model's chat template by the name that the client gave, and runs it.
    templates: Any = importlib.import_module("litellm.litellm_core_utils.prompt_templates.huggingface_template_handler")
    for name in ("get_tokenizer_config", "get_chat_template_file"):
        for variant in (name, f"_{name}"):
            setattr(templates, variant, _no_template)
        for variant in (f"a{name}", f"_a{name}"):
            setattr(templates, variant, _no_template_either)
    # It fetches a model's description by that name, to know how long its answers may be: we always say how long.
    utils: Any = importlib.import_module("litellm.utils")
    utils._get_max_position_embeddings = _unknown
    anthropic: Any = importlib.import_module("litellm.llms.anthropic.chat.transformation")
    anthropic.get_max_tokens = _unknown
    # It asks an Ollama server about a model several times a call, and waits for the answer on the event loop.
    ollama: Any = importlib.import_module("litellm.llms.ollama.common_utils")
    ollama.OllamaModelInfo.get_runtime_model_info = _free_of_charge
    # Images for Bedrock, and those whose size it wants to know, it downloads whatever that variable says.
    refuse, refuse_too = _without_images(litellm)
    for name in ("prompt_templates.image_handling", "prompt_templates.factory", "token_counter"):
        module: Any = importlib.import_module(f"litellm.litellm_core_utils.{name}")
        module.safe_get = refuse
        if hasattr(module, "async_safe_get"):
            module.async_safe_get = refuse_too
    # This adapter has a way of its own.
    gigachat: Any = importlib.import_module("litellm.llms.gigachat.file_handler")
    gigachat._download_image_sync = refuse
    gigachat._download_image_async = refuse_too


def _repeat_nothing() -> None:
    """Leave a request that failed to the retry policy of the engine."""
    # It forgets `max_retries` for a dozen of the providers that it calls through OpenAI's SDK, whose default is 2.
    for name in ("litellm.llms.openai.openai", "litellm.llms.openai.completion.handler"):
        module: Any = importlib.import_module(name)
        module.AsyncOpenAI = _without_retries(module.AsyncOpenAI)
    handler: Any = importlib.import_module("litellm.llms.custom_httpx.http_handler").AsyncHTTPHandler
    handler.single_connection_post_request = _not_again


def _verify_always() -> None:
    """Verify certificates for every provider: one adapter does not, and the environment could switch it off for all."""
    http: Any = importlib.import_module("litellm.llms.custom_httpx.http_handler")
    original: Callable[..., Any] = http.get_ssl_verify

    def verify(ssl_verify: Any = None) -> Any:
        return original(True if ssl_verify is False else ssl_verify) or original(True)

    http.get_ssl_verify = verify


def _keep_nothing() -> None:
    """Have no answer stored at a provider, as OpenAI's responses and those of others are by default."""
    requests: Any = importlib.import_module("litellm.responses.utils").ResponsesAPIRequestUtils
    original: Callable[..., dict[str, Any]] = requests.get_optional_params_responses_api

    def fit(
        model: str, responses_api_provider_config: Any, response_api_optional_params: dict[str, Any], **more: Any
    ) -> dict[str, Any]:
        takes = "store" in responses_api_provider_config.get_supported_openai_params(model)
        fields = {**response_api_optional_params, "store": False} if takes else response_api_optional_params
        return original(model, responses_api_provider_config, fields, **more)

    requests.get_optional_params_responses_api = staticmethod(fit)


def _stream_always(litellm: Any) -> None:
    """Stream the responses of models that litellm does not know, such as Azure's deployments.

    Otherwise it would request the whole answer and cut that into pieces.
    """

    def streams(model: str, custom_llm_provider: str | None) -> bool:
        table: dict[str, dict[str, Any]] = litellm.model_cost
        entry = table.get(f"{custom_llm_provider}/{model}") or table.get(model) or {}
        return entry.get("supports_native_streaming") is not False

    importlib.import_module("litellm.utils").__dict__["supports_native_streaming"] = streams


def _no_template(hf_model_name: str) -> NoReturn:
    raise LookupError(f"no chat template is fetched for {hf_model_name}")


async def _no_template_either(hf_model_name: str) -> NoReturn:
    _no_template(hf_model_name)


def _unknown(*_: object, **__: object) -> None:
    """Return None, which litellm takes for an answer without information."""


def _without_images(litellm: Any) -> tuple[Callable[..., NoReturn], Callable[..., Coroutine[Any, Any, NoReturn]]]:
    """Return stand-ins for its downloads of images, which fail with the error that `wants_images` recognizes."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise litellm.ImageFetchError("litellm fetches no images here")

    async def refuse_too(*_: object, **__: object) -> NoReturn:
        refuse()

    return refuse, refuse_too


def _without_retries(client: Callable[..., Any]) -> type:
    def begin(self: Any, **arguments: Any) -> None:
        original(self, **{**arguments, "max_retries": 0})

    kind = cast(type, client)
    original: Callable[..., None] = kind.__dict__["__init__"]
    return type(kind.__name__, (kind,), {"__init__": begin})


async def _not_again(*_: object, **__: object) -> NoReturn:
    """Raise the error of the request that litellm wants to make once more."""
    raise  # litellm calls this while it handles the error


def _keeping_refusals(is_chunk_non_empty: Callable[..., bool]) -> Callable[..., bool]:
    def is_not_empty(self: object, completion: object, chunk: Any, response: object) -> bool:
        refuses = any(getattr(choice.delta, "refusal", None) for choice in chunk.choices)
        return refuses or is_chunk_non_empty(self, completion, chunk, response)

    return is_not_empty


def _free_of_charge(_: object, model: str, api_base: str | None = None, api_key: str | None = None) -> dict[str, Any]:
    """Return litellm's description of an Ollama model whose server does not answer."""
    costs = {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
    limits = {"max_tokens": None, "max_input_tokens": None, "max_output_tokens": None}
    return {"key": model, "litellm_provider": "ollama", "mode": "chat", **costs, **limits}
