"""The pause before a model call is made again."""

import random
from typing import Final

FIRST_BACKOFF_SECONDS: Final = 0.5
MAX_BACKOFF_SECONDS: Final = 8.0
MAX_RETRY_AFTER_SECONDS: Final = 30.0


def pause_seconds(retry: int, retry_after_seconds: float | None) -> float:
    """Return the pause before the retry of this number, which counts from 0.

    It is the provider's own `Retry-After`, up to a cap; else it grows exponentially, with jitter so that siblings do
    not come back at once.
    """
    if retry_after_seconds is not None:
        return min(max(retry_after_seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
    return min(FIRST_BACKOFF_SECONDS * 2**retry, MAX_BACKOFF_SECONDS) * random.uniform(0.5, 1.0)
