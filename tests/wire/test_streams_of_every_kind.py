"""The promises that every stream keeps, held on the recorded streams of runs of every kind (docs/wire.md, section 4).

`test_corpus.py` holds that live runs answer byte for byte as these were recorded.
"""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.clients.sse import Parser, ServerEvent, check_stream
from tests.corpus.stored import JOB_IDS, LIVE

STREAMS = sorted(path for path in LIVE.rglob("streamed.http") if path.read_bytes().startswith(b"200\n"))

_FRAME = re.compile(rb"id: [0-9]+\nevent: [a-z_]+\ndata: [ -~]+\n\n")

every_stream = pytest.mark.parametrize("file", STREAMS, ids=[path.parent.name for path in STREAMS])


def body_of(file: Path) -> bytes:
    return file.read_bytes().partition(b"\n")[2]


def events_of(file: Path) -> list[ServerEvent]:
    return list(Parser().feed(body_of(file)))


def test_there_are_streams_of_most_kinds() -> None:
    assert len(STREAMS) > 40


@pytest.mark.promise("W-45", "W-46")
@every_stream
def test_a_stream_is_a_retry_line_and_frames_of_three_ascii_lines(file: Path) -> None:
    body = body_of(file)
    assert body.startswith(b"retry: 3000\nid: 1\n")
    assert _FRAME.sub(b"", body.removeprefix(b"retry: 3000\n")) == b""


@pytest.mark.promise("W-48", "W-54", "W-55", "W-57")
@every_stream
def test_ids_are_gapless_turns_are_whole_and_the_one_end_is_last(file: Path) -> None:
    check_stream(events_of(file))


@pytest.mark.promise("W-52")
@every_stream
def test_an_error_stands_before_its_agents_end_or_before_usage(file: Path) -> None:
    events = events_of(file)
    for event, following in pairwise(events):
        if event.event == "error" and "turn" in event.data:
            assert (following.event, following.data["turn"]) == ("agent_end", event.data["turn"])
            assert event.data["agent"] == following.data["agent"]
        elif event.event == "error":
            assert following.event == "usage"
            assert "agent" not in event.data


def test_errors_of_turns_and_of_runs_are_among_the_streams() -> None:
    errors = [event for file in STREAMS for event in events_of(file) if event.event == "error"]
    assert {"turn" in error.data for error in errors} == {True, False}


@pytest.mark.promise("W-38", "W-42")
@every_stream
def test_the_end_lists_an_output_for_each_turn_as_the_json_answer_does(file: Path) -> None:
    events = events_of(file)
    ended, end = [event.data for event in events if event.event == "agent_end"], events[-1].data
    outputs = end["output"] if "output" in end else end["outputs"]
    assert len(outputs) == len(ended)
    assert sorted(output["role"] for output in outputs) == sorted(turn["agent"] for turn in ended)
    status, answer = file.with_name("json.http").read_bytes().split(b"\n", 1)
    if status == b"200":
        document = json.loads(answer)
        contents = [output["content"] for output in document.get("output", document.get("outputs"))]
        assert [output["content"] for output in outputs] == contents


@pytest.mark.promise("W-51")
def test_chunks_repeat_no_text_where_that_is_not_wanted() -> None:
    chunks = [event.data for event in events_of(LIVE / "without-output" / "streamed.http") if event.event == "chunk"]
    assert [chunk["content"] for chunk in chunks] == ["a", "b"]
    assert all("output" not in chunk for chunk in chunks)


@pytest.mark.promise("W-22")
def test_ids_of_runs_name_their_kind_and_have_128_random_bits() -> None:
    job_ids = JOB_IDS.read_text().split()
    assert all(re.fullmatch(r"(swarms|agent)-[0-9a-f]{32}", job_id) for job_id in job_ids)
    assert len({job_id.partition("-")[2] for job_id in job_ids}) == len(job_ids)
