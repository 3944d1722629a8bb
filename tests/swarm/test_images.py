"""The images of a payload."""

import base64
from typing import Any

import pytest

from swarmstream.errors import InvalidRequest, NoTask
from swarmstream.swarm.payloads import AgentRequest, SwarmRequest
from tests.swarm.compiling import HI, agent_of, agent_refused, invalid_at, refused, swarm_of

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(60)).decode()
JPEG = base64.b64encode(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(60)).decode()
IMAGES = [
    ("https://example.com/a.png", "https://example.com/a.png"),
    ("HTTP://example.com/a", "HTTP://example.com/a"),
    (" https://example.com/a.png\n", "https://example.com/a.png"),
    (f"data:image/png;base64,{PNG}", f"data:image/png;base64,{PNG}"),
    (f"data:image/svg+xml;base64,{PNG}", f"data:image/svg+xml;base64,{PNG}"),
    (PNG, f"data:image/png;base64,{PNG}"),
    (JPEG, f"data:image/jpeg;base64,{JPEG}"),
    (f"{JPEG}\n", f"data:image/jpeg;base64,{JPEG}"),
]
NOT_IMAGES = [
    "/etc/passwd",
    "/srv/images/cat.png",
    "cat.png",
    "../../cat.png",
    "C:\\images\\cat.png",
    "file:///etc/passwd",
    "ftp://example.com/a.png",
    "gs://bucket/a.png",
    "javascript:alert(1)",
    "//example.com/a.png",
    "https://",
    "https:///etc/passwd",
    "https:// example.com",
    "data:text/html;base64,PGI+",
    f"data:image/png,{PNG}",
    f"data:application/pdf;base64,{PNG}",
    base64.b64encode(b"just some text, no image").decode(),
    "iVBORw0KG",
    f"{PNG}!",
    f"/tmp/x {PNG}",
    "   ",
    "日本",
]


@pytest.mark.parametrize(("value", "url"), IMAGES)
def test_an_image_goes_with_the_task(value: str, url: str) -> None:
    image = {"type": "image_url", "image_url": {"url": url}}
    user_message = {"role": "user", "content": [{"type": "text", "text": "go"}, image]}
    assert swarm_of({"img": value}).plan.openings == ((user_message,),)
    assert agent_of({"img": value}).plan.openings == ((user_message,),)
    both = agent_of({"img": value, "imgs": [value]}).plan.openings[0][0]
    assert both["content"] == [{"type": "text", "text": "go"}, image, image]


@pytest.mark.parametrize("value", NOT_IMAGES)
def test_anything_but_an_image_is_refused_in_every_field_for_images(value: str) -> None:
    good = "https://example.com/a.png"
    part = {"type": "image_url", "image_url": {"url": value}}
    message = {"role": "user", "content": [{"type": "text", "text": "see"}, part]}
    assert "image" in refused(InvalidRequest, {"img": value}, at=("img",))
    agent_refused(InvalidRequest, {"img": value}, at=("img",))
    agent_refused(InvalidRequest, {"imgs": [good, value]}, at=("imgs", 1))
    agent_refused(InvalidRequest, {"history": [HI, message]}, at=("history", 1, "content", 1))
    refused(InvalidRequest, {"task": None, "messages": [message]}, at=("messages", 0, "content", 1))


def test_an_image_is_not_repeated_in_a_refusal() -> None:
    assert "secret" not in refused(InvalidRequest, {"img": "/home/secret/cat.png"}, at=("img",))


def test_no_image_is_asked_for_with_an_empty_string() -> None:
    opening = ({"role": "user", "content": "go"},)
    assert swarm_of({"img": ""}).plan.openings == (opening,)
    assert agent_of({"img": "", "imgs": ["", ""]}).plan.openings == (opening,)


def test_an_image_follows_messages_and_goes_with_each_of_several_tasks() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    messages = swarm_of({"task": None, "messages": [HI], "img": "https://example.com/a.png"}).plan.openings
    assert messages == (({"role": "user", "content": "hi"}, {"role": "user", "content": [image]}),)
    tasks = swarm_of({"task": None, "tasks": ["one", "two"], "img": "https://example.com/a.png"}).plan.openings
    assert [opening[0]["content"][1] for opening in tasks] == [image, image]


def test_an_agents_images_need_a_task() -> None:
    agent_refused(NoTask, {"task": None, "history": [HI], "img": "https://example.com/a.png"}, at=("task",))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "text", "text": "see"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ],
)
def test_parts_of_messages_are_handed_on_as_they_came(part: dict[str, Any]) -> None:
    message = {"role": "user", "content": [part]}
    assert agent_of({"history": [message]}).plan.openings[0][0] == message


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_data": "/etc/passwd"}},
        {"type": "image", "source": {"type": "url", "url": "http://169.254.169.254/"}},
        {"type": "document"},
        {"type": "video_url", "video_url": {"url": "https://example.com/v.mp4"}},
        {"type": None},
        {"type": 1},
        {"type": ["text"]},
        {"type": "text", "text": 5},
        {"type": "text", "text": None},
        {"type": "text", "text": ["see"]},
        {},
        {"text": "see"},
        {"type": "image_url"},
        {"type": "image_url", "image_url": {}},
        {"type": "image_url", "image_url": None},
        {"type": "image_url", "image_url": {"url": None}},
        {"type": "image_url", "image_url": {"url": ["https://example.com/a.png"]}},
        {"type": "image_url", "image_url": ["https://example.com/a.png"]},
    ],
)
def test_parts_that_no_model_should_be_sent_are_refused(part: dict[str, Any]) -> None:
    history = [{"role": "user", "content": [{"type": "text", "text": "see"}, part]}]
    for model, field in ((AgentRequest, "history"), (SwarmRequest, "messages")):
        payload = {"agent_config": {"agent_name": "A"}, field: history}
        assert all(loc[:3] == (field, 0, "content") for loc in invalid_at(model, payload))


@pytest.mark.parametrize("image", ["/etc/passwd", "file:///etc/passwd", "", "ftp://example.com/a.png"])
def test_a_part_that_is_no_image_is_refused(image: str) -> None:
    history = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": image}}]}]
    agent_refused(InvalidRequest, {"history": history}, at=("history", 0, "content", 0))
    refused(InvalidRequest, {"task": None, "messages": history}, at=("messages", 0, "content", 0))


def test_an_image_part_may_be_the_bare_url() -> None:
    part = {"type": "image_url", "image_url": "https://example.com/a.png"}
    message = agent_of({"history": [{"role": "user", "content": [part]}]}).plan.openings[0][0]
    assert message["content"] == [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]


def test_bare_base64_in_a_part_of_a_message_becomes_a_data_url() -> None:
    part = {"type": "image_url", "image_url": {"url": PNG}}
    message = agent_of({"history": [{"role": "user", "content": [part]}]}).plan.openings[0][0]
    assert message["content"][0]["image_url"]["url"] == f"data:image/png;base64,{PNG}"
