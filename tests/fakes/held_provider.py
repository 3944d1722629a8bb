"""A provider that stops in the middle of its answer until the test lets it go on."""

import anyio

from tests.fakes.upstream import Exchange


class HeldProvider:
    """A script that sends one delta, waits for `go_on`, then sends the rest of its answer."""

    def __init__(self) -> None:
        self.go_on = anyio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("first")
        await self.go_on.wait()
        await exchange.say(" second")
        await exchange.finish()
