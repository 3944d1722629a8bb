"""Which models this server can call: the operator's aliases first, then litellm's names."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from app.errors import AppError, NoCredentials, quote
from app.llm import known
from app.llm.aliases import DEMO_PREFIX, Alias
from app.swarm.models import ModelRef, Price

DEMO_MODEL = f"{DEMO_PREFIX}swarm"
_FREE = Price(input=0.0, output=0.0)


class Registry:
    """Resolves model names against aliases, what litellm knows, and the keys in the environment."""

    def __init__(self, *, default_model: str, environ: Mapping[str, str], aliases: Mapping[str, Alias] | None = None):
        self._default_model = default_model
        self._environ = environ
        self._aliases = dict(aliases or {})

    @property
    def default_model(self) -> str:
        return self._default_model

    def resolve(self, name: str) -> ModelRef:
        """See `ModelRegistry`. An exact alias wins over a glob, globs are tried in the file's order."""
        alias = self._alias(name) or Alias.model_construct(model=name)
        target = alias.model
        if target.startswith(DEMO_PREFIX):
            return ModelRef(name=name, target=target.removeprefix(DEMO_PREFIX), lane="demo", price=_FREE)
        provider = known.provider_of(target, environ=self._environ)
        self._check_credentials(name, provider, alias)
        return ModelRef(
            name=name,
            target=target if target.startswith(f"{provider}/") else f"{provider}/{target}",
            lane="litellm",
            api_base=alias.api_base,
            api_key_env=alias.api_key_env,
            price=Price(**alias.price.model_dump()) if alias.price else known.price(target, provider),
            max_output_tokens=known.max_output_tokens(target, provider),
        )

    def names(self) -> list[str]:
        """What clients may ask for here: aliases, the demo, and the models of providers with credentials."""
        aliases = [alias for alias in self._aliases if not _is_glob(alias)]
        candidates = {DEMO_MODEL, *aliases, *known.models_with_key(self._environ)}
        return sorted(name for name in candidates if self._resolves(name))

    def _alias(self, name: str) -> Alias | None:
        if name in self._aliases:
            return self._aliases[name]
        return next((alias for pattern, alias in self._aliases.items() if fnmatchcase(name, pattern)), None)

    def _check_credentials(self, name: str, provider: str, alias: Alias) -> None:
        """An alias with a key of its own needs that; one with a base URL and no key needs none."""
        if alias.api_key_env is not None:
            missing = [] if self._environ.get(alias.api_key_env) else [alias.api_key_env]
        elif alias.api_base is not None:
            missing = []
        else:
            missing = known.missing_variables(provider, self._environ)
        if missing:
            raise NoCredentials(
                f"this server has no credentials for the model {quote(name)} of {provider}: set {' and '.join(missing)}"
            )

    def _resolves(self, name: str) -> bool:
        try:
            self.resolve(name)
        except AppError:
            return False
        return True


def _is_glob(pattern: str) -> bool:
    return any(char in pattern for char in "*?[")
