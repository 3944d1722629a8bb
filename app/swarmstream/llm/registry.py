"""Models that this server can call, by name: the operator's aliases first, then litellm's names."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal

from swarmstream.errors import AppError, NoCredentials, UnknownModel, quote
from swarmstream.llm import model_table
from swarmstream.llm.aliases import DEMO_PREFIX, Alias
from swarmstream.llm.chat_endpoints import chat_endpoint
from swarmstream.llm.credentials import missing_variables, models_with_key
from swarmstream.llm.families import model_traits
from swarmstream.llm.model_ref import ChatEndpoint, ModelRef, Price
from swarmstream.llm.provider_names import find_provider
from swarmstream.settings import BackendName

DEMO_MODEL = f"{DEMO_PREFIX}swarm"
_RESOLVED_NAMES = 1024
_FREE = Price(input=0.0, output=0.0)


@dataclass(frozen=True, slots=True)
class PublicAlias:
    """An alias as clients see it: without its address and the name of its key's variable."""

    name: str
    """A name that clients use, or a glob."""
    target: str
    """The model that answers."""
    is_glob: bool
    is_callable: bool
    """True if there are credentials for it here."""


class Registry:
    """Resolves model names against aliases, litellm's tables, and the keys in the environment."""

    def __init__(
        self,
        *,
        default_model: str,
        environ: Mapping[str, str],
        aliases: Mapping[str, Alias] | None = None,
        backend: BackendName | Literal["auto"] = "auto",
        holder: str = "this server",
        hint: str = "",
    ):
        """`holder` is the subject of the error about missing credentials; `hint` ends that error's message."""
        self._default_model = default_model
        self._environ = environ
        self._aliases = dict(aliases or {})
        self._backend: BackendName | Literal["auto"] = backend
        self._holder = holder
        self._hint = hint
        self._resolved = lru_cache(maxsize=_RESOLVED_NAMES)(self._resolve)

    @property
    def default_model(self) -> str:
        return self._default_model

    def resolve(self, name: str) -> ModelRef:
        """Implement `ModelRegistry.resolve`.

        An exact alias wins over a glob; globs are tried in the file's order. Results are kept: aliases, tables and keys
        are read once, when the server starts.
        """
        return self._resolved(name)

    def names(self) -> list[str]:
        """List the names that can be called here: aliases, the demo, and the models of providers with credentials."""
        aliases = [alias for alias in self._aliases if not _is_glob(alias)]
        candidates = {DEMO_MODEL, *aliases, *models_with_key(self._environ)}
        return sorted(name for name in candidates if self._is_callable(name))

    def public_aliases(self) -> list[PublicAlias]:
        """List the operator's aliases, in their order, which is the one that globs are tried in."""
        return [
            PublicAlias(name, alias.model, is_glob=_is_glob(name), is_callable=self._is_callable(name, alias))
            for name, alias in self._aliases.items()
        ]

    def _is_callable(self, name: str, alias: Alias | None = None) -> bool:
        try:
            self._resolve(name, alias)
        except AppError:
            return False
        return True

    def _resolve(self, name: str, alias: Alias | None = None) -> ModelRef:
        alias = alias or self._alias(name)
        target = alias.model
        if target.startswith(DEMO_PREFIX):
            return ModelRef(name=name, target=target.removeprefix(DEMO_PREFIX), backend="demo", price=_FREE)
        provider = find_provider(target, environ=self._environ)
        self._check_credentials(name, provider, alias)
        endpoint = self._endpoint(name, provider, alias)
        return ModelRef(
            name=name,
            target=target if target.startswith(f"{provider}/") else f"{provider}/{target}",
            backend="direct" if endpoint else "litellm",
            api_base=alias.api_base,
            api_key_env=alias.api_key_env,
            endpoint=endpoint,
            price=Price(**alias.price.model_dump()) if alias.price else model_table.price(target, provider),
            max_output_tokens=model_table.max_output_tokens(target, provider),
            takes_schemas=model_table.takes_schemas(target, provider),
            traits=model_traits(target, provider, environ=self._environ, api_base=alias.api_base),
            direct_only=(alias.lane or self._backend) == "direct",
        )

    def _alias(self, name: str) -> Alias:
        """Return the alias for a name; for a name without one, an alias that stands for the name itself."""
        if name in self._aliases:
            return self._aliases[name]
        globbed = (alias for pattern, alias in self._aliases.items() if fnmatchcase(name, pattern))
        return next(globbed, None) or Alias.model_construct(model=name)

    def _check_credentials(self, name: str, provider: str, alias: Alias) -> None:
        """Require an alias's own key; without one, the provider's, unless the alias has a base URL."""
        if alias.api_key_env is not None:
            missing = [] if self._environ.get(alias.api_key_env) else [alias.api_key_env]
        elif alias.api_base is not None:
            missing = []
        else:
            missing = missing_variables(provider, self._environ)
        if missing:
            raise NoCredentials(
                f"{self._holder} has no credentials for the model {quote(name)} of {provider}: "
                f"set {' and '.join(missing)}{self._hint}"
            )

    def _endpoint(self, name: str, provider: str, alias: Alias) -> ChatEndpoint | None:
        """Return where the direct backend posts to; None for litellm. An alias's lane wins over the setting."""
        backend = alias.lane or self._backend
        if backend == "litellm":
            return None
        endpoint = chat_endpoint(
            alias.model, provider, environ=self._environ, api_base=alias.api_base, api_key_env=alias.api_key_env
        )
        if backend == "direct" and endpoint is None:
            raise UnknownModel(
                f"the model {quote(name)} of {provider} can only be called through litellm, which it must not be here"
            )
        return endpoint


def _is_glob(pattern: str) -> bool:
    return any(char in pattern for char in "*?[")
