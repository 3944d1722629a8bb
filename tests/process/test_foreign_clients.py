"""Other people's Python clients read a stream whole, also when it is cut. `scripts/clients` runs those of npm, too."""

from collections.abc import AsyncGenerator, Callable

import anyio
import httpx
import pytest
from anyio import to_thread
from swarms_client import SwarmsClient

from tests.clients.foreign.__main__ import main, table
from tests.clients.foreign.http_clients import try_httpx_sse, try_requests, try_sseclient
from tests.clients.foreign.sdks import try_openai, try_swarms_client
from tests.clients.foreign.stage import Report, Row, Stage, stage
from tests.conftest import KEY
from tests.docs.pages import PAGES

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", name="stage")
async def _stage() -> AsyncGenerator[Stage]:  # pyright: ignore[reportUnusedFunction]
    async with stage() as found:
        yield found


@pytest.mark.parametrize("client", [try_requests, try_httpx_sse, try_sseclient, try_openai, try_swarms_client])
async def test_a_foreign_client_reads_every_token_once_and_pays_once(
    stage: Stage, client: Callable[[Stage], Report]
) -> None:
    with anyio.fail_after(120):
        report = await to_thread.run_sync(client, stage, abandon_on_cancel=True)
    assert [row for row in report.rows if row.verdict == "FAILED"] == []


def test_the_hosted_apis_sdk_gives_up_when_the_docs_say_it_does() -> None:
    sdk = SwarmsClient(api_key=KEY)
    assert (sdk.timeout, sdk.max_retries) == (httpx.Timeout(60, connect=5), 2)
    assert "gives a request up after 60 s and sends it again, twice" in PAGES["migrating"]


def test_the_clients_script_reports_failures_and_missing_clients(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Row("a", "this", "ok"), Row("b", "that", "later"), Row("b", "more", "FAILED", "AssertionError: why")]
    cells = [line.split() for line in table(rows).splitlines()]
    assert cells[:3] == [["a", "ok", "this"], ["b", "later", "that"], ["b", "FAILED", "more"]]
    assert cells[3] == ["AssertionError:", "why"]
    assert cells[4][:4] == ["3", "tried,", "1", "failed;"]
    with pytest.raises(SystemExit):
        main(["--only", "nobody"])
    assert "fetch-event-source" in capsys.readouterr().err
