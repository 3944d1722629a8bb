"""The earlier turns of a conversation that its agents read: a policy of the plan (docs/engine.md, "Hand-off")."""

from collections.abc import Iterable, Sequence

from swarmstream.swarm.plan import Hears
from swarmstream.swarm.prompts import Said


class Transcript:
    """The turns of one conversation so far, in flow order, as far as later turns read them."""

    def __init__(self, hears: Hears) -> None:
        self._hears = hears
        self._entries: list[Said] = []
        self._loop_begins = 0
        """The index of the present loop's first entry."""

    @property
    def entries(self) -> Sequence[Said]:
        """The turns that the next stage reads. The sequence changes with `begin_loop` and `add_stage`."""
        return self._entries

    def begin_loop(self) -> None:
        """Drop the turns that agents of the loop that begins do not read."""
        if self._hears == "previous_loop":
            del self._entries[: self._loop_begins]
        self._loop_begins = len(self._entries)

    def add_stage(self, turns: Iterable[Said]) -> None:
        """Add the turns of a stage, in flow order."""
        if self._hears in ("previous_stage", "nothing"):
            self._entries.clear()
        if self._hears != "nothing":
            self._entries += turns
