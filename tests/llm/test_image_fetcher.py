"""Images that a provider wants as bytes: who is asked for them, and how much of anything it may cost."""

import asyncio

import anyio
import pytest
from anyio.abc import TaskGroup

from swarmstream.errors import ModelError, ProviderBusy, ProviderRejected
from swarmstream.llm.image_fetcher import FETCH_SECONDS, KEEP_SECONDS, MAX_IMAGE_BYTES, ImageFetcher
from tests.fakes.clock import DrivenClock
from tests.llm.image_host import (
    LOOPBACK_POLICY,
    PNG,
    PNG_URL,
    answering,
    fetcher,
    image_host,
    messages_with,
    policy_leading_to,
)

pytestmark = pytest.mark.anyio

MIB = 1 << 20


def strict(address: str) -> ImageFetcher:
    """As the server's own, but that every name leads to this address."""
    return ImageFetcher(policy_leading_to(address, "*"))


async def inlined(fetching: ImageFetcher, *urls: str) -> list[str]:
    """What became of the images' URLs."""
    async with fetching.inlined(messages_with(*urls)) as messages:
        return [part["image_url"]["url"] for part in messages[1]["content"][1:]]


async def refused(fetching: ImageFetcher, *urls: str) -> str:
    with pytest.raises(ModelError) as caught:
        await inlined(fetching, *urls)
    assert type(caught.value) is ProviderRejected
    assert not caught.value.repeatable
    return caught.value.detail


async def test_the_bytes_of_an_image_take_the_place_of_its_url_and_nothing_else_changes() -> None:
    async with image_host(answering(PNG)) as host:
        fetching = fetcher()
        original = messages_with(host.url(), PNG_URL)
        async with fetching.inlined(original) as messages:
            assert messages == messages_with(PNG_URL, PNG_URL)
        assert original == messages_with(host.url(), PNG_URL), "the caller's own messages are as they were"
        [head] = host.heads
        assert "accept-encoding: identity" in head.lower()
        assert not {"authorization", "cookie", "x-api-key", "proxy-authorization"} & {
            line.partition(":")[0].lower() for line in head.splitlines()
        }


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"GIF89a", "gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
        (b"BM\0\0", "bmp"),
    ],
)
async def test_the_bytes_decide_the_format(body: bytes, kind: str) -> None:
    async with image_host(answering(body, "content-type: text/html")) as host:
        [url] = await inlined(fetcher(), host.url())
    assert url.startswith(f"data:image/{kind};base64,")


@pytest.mark.parametrize("body", [b"<html>", b"", b"RIFF\0\0\0\0WAVE", b'{"secret": 1}'])
async def test_a_body_that_is_not_an_image_is_refused(body: bytes) -> None:
    async with image_host(answering(body, "content-type: image/png")) as host:
        assert "is no PNG, JPEG, GIF, WebP or BMP" in await refused(fetcher(), host.url())


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.1.1",
        "100.64.0.1",
        "0.0.0.0",
        "168.63.129.16",
        "224.0.0.1",
        "::1",
        "fe80::1",
        "fc00::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
async def test_a_name_that_leads_to_an_address_that_is_not_public_is_not_connected_to(address: str) -> None:
    async with image_host(answering(PNG)) as host:
        detail = await refused(strict(address), host.url())
        assert "is not at a public address" in detail
        assert host.asked == []


@pytest.mark.parametrize(
    "netloc",
    [
        "127.0.0.1",
        "[::1]",
        "localhost",
        "localhost.",
        "0x7f.1",
        "2130706433",
        "user:pass@pictures.example",
        "[::ffff:7f00:1]",
    ],
)
async def test_a_url_that_names_no_public_host_plainly_is_not_fetched(netloc: str) -> None:
    async with image_host(answering(PNG)) as host:
        detail = await refused(strict("127.0.0.1"), f"http://{netloc}:{host.port}/x.png")
        assert "is not at a public address" in detail
        assert "pass" not in detail.replace("a plain one", "")
        assert host.asked == []


async def test_a_redirect_is_not_followed() -> None:
    async with image_host(answering(PNG)) as elsewhere:
        answer = answering(b"", f"location: {elsewhere.url(host='127.0.0.1')}", status="302 Found")
        async with image_host(answer) as host:
            assert "redirects are not followed" in await refused(fetcher(), host.url())
        assert elsewhere.asked == []


async def test_a_refusal_of_the_host_is_reported_by_its_status_alone() -> None:
    async with image_host(answering(b"internal words", status="403 Forbidden")) as host:
        detail = await refused(fetcher(), host.url())
    assert "HTTP status 403" in detail
    assert "internal words" not in detail


async def test_a_host_that_cannot_be_reached_is_a_refusal(free_tcp_port: int) -> None:
    assert "cannot be reached" in await refused(fetcher(), f"http://pictures.example:{free_tcp_port}/x.png")


async def test_an_announced_size_over_the_limit_is_not_waited_for() -> None:
    async def announce(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {MAX_IMAGE_BYTES + 1}\r\n\r\n".encode())
        await anyio.sleep_forever()

    async with image_host(announce) as host:
        assert "is larger than 20 MiB" in await refused(fetcher(), host.url())


async def test_an_image_without_end_is_read_no_further_than_the_limit() -> None:
    sent = 0

    async def drip(path: str, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + PNG)
        while True:
            writer.write(bytes(MIB))
            await writer.drain()
            sent += MIB

    async with image_host(drip) as host:
        assert "is larger than 20 MiB" in await refused(fetcher(), host.url())
        assert sent < 2 * MAX_IMAGE_BYTES


async def test_a_compressed_answer_is_not_unpacked() -> None:
    async with image_host(answering(PNG, "content-encoding: gzip")) as host:
        assert "compressed" in await refused(fetcher(), host.url())


async def test_the_images_of_one_call_share_the_limit() -> None:
    async with image_host(answering(PNG + bytes(11 * MIB))) as host:
        fetching = fetcher()
        assert len(await inlined(fetching, host.url("1"))) == 1
        assert "larger than 20 MiB together" in await refused(fetching, host.url("1"), host.url("2"))


async def test_an_image_that_does_not_come_is_waited_for_ten_seconds() -> None:
    clock = DrivenClock()

    async def stall(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        await anyio.sleep_forever()

    details: list[str] = []

    async def ask(url: str) -> None:
        details.append(await refused(fetcher(clock), url))

    async with image_host(stall) as host, anyio.create_task_group() as tasks:
        tasks.start_soon(ask, host.url())
        await clock.waiting(FETCH_SECONDS)
        await clock.advance(FETCH_SECONDS - 0.1)
        assert details == []
        await clock.advance(0.2)
    assert "did not come within 10 s" in details[0]


async def test_calls_at_the_same_time_share_one_fetch_also_if_the_first_is_cancelled() -> None:
    came, go = anyio.Event(), anyio.Event()

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        came.set()
        await go.wait()
        await answering(PNG)(path, writer)

    async with image_host(answer) as host:
        fetching = fetcher()
        found: list[list[str]] = []

        async def ask() -> None:
            found.append(await inlined(fetching, host.url()))

        async with anyio.create_task_group() as tasks:
            first = anyio.CancelScope()

            async def cancelled() -> None:
                with first:
                    await ask()

            tasks.start_soon(cancelled)
            await came.wait()
            for _ in range(64):
                tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            first.cancel()
            go.set()
        assert found == [[PNG_URL]] * 64
        assert len(host.asked) == 2, "the cancelled one, and one for all others"


async def test_a_failure_is_shared_by_waiting_calls_and_not_by_later_ones() -> None:
    async with image_host(answering(b"", status="503 Busy")) as host:
        fetching = fetcher()
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(refused, fetching, host.url())
        assert len(host.asked) == 1
        host.answer = answering(PNG)
        assert await inlined(fetching, host.url()) == [PNG_URL]


async def test_an_image_is_kept_for_retries_and_no_longer() -> None:
    clock = DrivenClock()
    async with image_host(answering(PNG)) as host:
        fetching = fetcher(clock)
        for _ in range(3):
            await inlined(fetching, host.url())
            await clock.advance(KEEP_SECONDS - 1)
        assert len(host.asked) == 1
        await clock.advance(2)
        assert clock.pending == []
        await inlined(fetching, host.url())
        assert len(host.asked) == 2


async def test_no_more_than_eight_are_fetched_at_once_and_three_for_one_call() -> None:
    go = anyio.Event()

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await answering(PNG)(path, writer)

    async with image_host(answer) as host:
        fetching = fetcher()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(inlined, fetching, *(host.url(f"{number}") for number in range(10)))
            await host.was_asked(3)
            for call in range(6):
                tasks.start_soon(inlined, fetching, *(host.url(f"{call}-{number}") for number in range(10)))
            await host.was_asked(8)
            await anyio.wait_all_tasks_blocked()
            go.set()
        assert host.most_at_once == 8
        assert len(host.asked) == 70


async def test_images_kept_and_in_use_share_a_bound() -> None:
    async with image_host(answering(PNG)) as host:
        fetching = ImageFetcher(LOOPBACK_POLICY, max_kept_bytes=3 * len(PNG_URL))
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                await hold(tasks, fetching, host.url(f"{number}"))
            with pytest.raises(ProviderBusy, match="too many images"):
                await inlined(fetching, host.url("more"))
            tasks.cancel_scope.cancel()
        assert await inlined(fetching, host.url("more")) == [PNG_URL], "what is not in use makes room"


async def hold(tasks: TaskGroup, fetching: ImageFetcher, url: str) -> None:
    """Have an image in use until the tasks are cancelled."""
    held = anyio.Event()

    async def use() -> None:
        async with fetching.inlined(messages_with(url)):
            held.set()
            await anyio.sleep_forever()

    tasks.start_soon(use)
    await held.wait()
