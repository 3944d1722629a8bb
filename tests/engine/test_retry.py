"""Pauses before retries (docs/engine.md, "When the model misbehaves")."""

import pytest

from swarmstream.engine.retry import pause_seconds


@pytest.mark.parametrize(("retry", "longest"), [(0, 0.5), (1, 1.0), (3, 4.0), (4, 8.0), (9, 8.0)])
def test_pauses_double_up_to_eight_seconds_with_jitter(retry: int, longest: float) -> None:
    pauses = [pause_seconds(retry, None) for _ in range(50)]
    assert all(longest / 2 <= pause <= longest for pause in pauses)
    assert len(set(pauses)) > 1


@pytest.mark.parametrize(("asked", "pause"), [(0.0, 0.0), (7.0, 7.0), (30.0, 30.0), (600.0, 30.0), (-1.0, 0.0)])
def test_a_providers_retry_after_counts_up_to_thirty_seconds(asked: float, pause: float) -> None:
    assert pause_seconds(0, asked) == pause
