"""The upkeep of a data directory: the regular work on it, done by the writing thread."""

from collections.abc import Callable

from swarmstream.clock import Clock, Timer
from swarmstream.journal.idempotency import IDEMPOTENCY_KEY_SECONDS
from swarmstream.journal.sqlite.file.store import Store
from swarmstream.journal.sqlite.sweep import Sweeper
from swarmstream.journal.sqlite.writer import Writer
from swarmstream.journal.sqlite.writing_thread import WriteTask

_SWEEP_SECONDS = 60.0
_CHECK_SECONDS = 4.0


class Upkeep:
    """A sweep each minute, and each few seconds a check that the files are where they were."""

    def __init__(self, clock: Clock, writer: Writer, sweeper: Sweeper) -> None:
        self._clock = clock
        self._writer = writer
        self._sweeper = sweeper
        self._timers: list[Timer] = []

    def begin(self) -> None:
        """Begin the work, with a sweep at once."""
        self._timers = []
        self._every(_SWEEP_SECONDS, self._sweep, at_once=True)
        self._every(_CHECK_SECONDS, self._check_presence, at_once=False)

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _every(self, seconds: float, work: Callable[[], None], *, at_once: bool) -> None:
        place = len(self._timers)

        def again() -> None:
            work()
            self._timers[place] = self._clock.call_later(seconds, again)

        self._timers.append(self._clock.call_later(0 if at_once else seconds, again))

    def _check_presence(self) -> None:
        """Check that the files are where they were; the writer logs it if they are not."""
        if self._writer.is_healthy:
            self._writer.put(WriteTask(lambda store: store.check_presence(), is_check=True))

    def _sweep(self) -> None:
        now = self._clock.unix()

        def tidy(store: Store) -> None:
            store.idempotency_keys.drop(now - IDEMPOTENCY_KEY_SECONDS)
            store.space.truncate_soon()

        if self._writer.is_healthy:
            self._writer.put(WriteTask(tidy))
            self._sweeper.sweep()
