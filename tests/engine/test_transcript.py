"""The earlier turns that agents read, by the plan's policy."""

import pytest

from swarmstream.engine.transcript import Transcript
from swarmstream.swarm.plan import Hears
from swarmstream.swarm.prompts import TranscriptEntry

READ: dict[Hears, list[list[str]]] = {
    "everything": [[], ["a1"], ["a1", "b1"], ["a1", "b1", "a2"], ["a1", "b1", "a2", "b2"]],
    "previous_loop": [[], ["a1"], ["a1", "b1"], ["a1", "b1", "a2"], ["a2", "b2"]],
    "previous_stage": [[], ["a1"], ["b1"], ["a2"], ["b2"]],
    "nothing": [[], [], [], [], []],
}


@pytest.mark.parametrize("hears", READ)
def test_a_policy_decides_which_earlier_turns_agents_read(hears: Hears) -> None:
    """Two stages, A and B, in two loops; then the third loop begins."""
    transcript = Transcript(hears)
    seen: list[list[str]] = []
    for loop in (1, 2):
        transcript.begin_loop()
        for agent in "ab":
            seen.append([entry.output for entry in transcript.entries])
            transcript.add_stage([TranscriptEntry(agent, f"{agent}{loop}")])
    transcript.begin_loop()
    seen.append([entry.output for entry in transcript.entries])
    assert seen == READ[hears]
