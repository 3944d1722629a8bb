"""The choice of a journal by the settings."""

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.journal.base import Journal
from swarmstream.journal.memory import MemoryJournal
from swarmstream.settings import Settings


def create_journal(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> Journal:
    """Return the journal of this server's runs.

    Raises:
        DirectoryInUse: another server has the directory.
    """
    if settings.data_dir is None:
        return MemoryJournal(retain_seconds=settings.retain_seconds, retain_bytes=settings.retain_bytes, clock=clock)
    # Imported here: a server that keeps its runs in memory does not need it.
    from swarmstream.journal.sqlite.journal import SqliteJournal

    return SqliteJournal(
        settings.data_dir,
        retain_seconds=settings.retain_seconds,
        retain_bytes=settings.retain_bytes,
        durability=settings.durability,
        expires_all=settings.expire,
        clock=clock,
    )
