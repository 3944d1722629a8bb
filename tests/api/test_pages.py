"""Pages for people who open the server in a browser: the front page and the docs."""

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from urllib.parse import urljoin

import httpx
import pytest

from swarmstream.api.front_page import prefers_html
from tests.conftest import KEY, OTHER_KEY, client, serving

pytestmark = pytest.mark.anyio

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
ASSETS = ("/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/docs/favicon-32x32.png")


def policy_of(page: httpx.Response) -> dict[str, Sequence[str]]:
    parts = [part.split() for part in page.headers["content-security-policy"].split(";")]
    return {name: sources for name, *sources in parts}


def loaded_by(page: httpx.Response) -> list[str]:
    """Return the addresses that a page loads or links to."""
    return [address for address in re.findall(r'(?:src|href)="([^"]*)"', page.text) if address != "data:,"]


def digest_of(content: str) -> str:
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"


async def test_the_docs_page_loads_from_this_server_only() -> None:
    async with serving() as url, client(url, key=None) as http:
        page = await http.get("/docs")
        policy = policy_of(page)
        [script] = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == ["'none'"]
        assert policy["script-src"] == ["'self'", digest_of(script)]
        assert {source for sources in policy.values() for source in sources} == {
            "'none'",
            "'self'",
            "data:",
            digest_of(script),
        }
        assert not re.search(r"<[^>]+\s(style|on\w+)=", page.text)
        found = [urljoin("/docs", address) for address in loaded_by(page)]
        assert sorted(found) == sorted(ASSETS)
        fetched = re.findall(r'fetch\("([^"]*)"\)', script)
        assert [urljoin("/docs", address) for address in fetched] == ["/openapi.json"]
        for address in (*found, "/openapi.json"):
            assert (await http.get(address)).status_code == 200, address
        bundle = (await http.get("/docs/swagger-ui-bundle.js")).text
        sheet = (await http.get("/docs/swagger-ui.css")).text
    assert "SwaggerUIBundle" in bundle
    assert set(re.findall(r"url\(\s*['\"]?([^)'\"]{5})", sheet)) == {"data:"}
    assert "@import" not in sheet


async def test_the_docs_page_works_below_a_proxys_prefix() -> None:
    async with serving() as url, client(url, key=None) as http:
        page = await http.get("/docs")
    for address in [*loaded_by(page), *re.findall(r'fetch\("([^"]*)"\)', page.text)]:
        assert urljoin("https://a.example/swarms/docs", address).startswith("https://a.example/swarms/"), address


async def test_browsers_cache_the_docs_files_and_revalidate_them() -> None:
    async with serving() as url, client(url, key=None) as http:
        for path in ASSETS:
            first = await http.get(path)
            again = await http.get(path, headers={"if-none-match": first.headers["etag"]})
            assert (first.status_code, again.status_code, again.content) == (200, 304, b""), path
            assert first.headers["cache-control"] == again.headers["cache-control"] == "no-cache"
        types = [(await http.get(path)).headers["content-type"].partition(";")[0] for path in ASSETS]
    assert types == ["text/javascript", "text/css", "image/png"]


async def test_without_docs_the_page_its_files_and_links_to_it_are_absent() -> None:
    async with serving(docs=False) as url, client(url, key=None) as http:
        for path in ("/docs", "/openapi.json", *ASSETS):
            answer = await http.get(path)
            assert answer.status_code == 404, path
            assert "docs" not in answer.json()["detail"]
        front = await http.get("/", headers={"accept": BROWSER})
    assert "docs" not in front.text
    assert "openapi" not in front.text


async def test_the_front_page_is_html_for_browsers_and_json_for_programs() -> None:
    async with serving() as url, client(url, key=None) as http:
        page = await http.get("/", headers={"accept": BROWSER})
        programs = [await http.get("/", headers={"accept": accept}) for accept in ("application/json", "*/*", "")]
        found = [urljoin("/", address) for address in loaded_by(page)]
        assert sorted(found) == ["/docs", "/health/ready", "/openapi.json"]
        for address in found:
            assert (await http.get(address)).status_code == 200
        head = await http.head("/", headers={"accept": BROWSER})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert f"curl -N {url}/v1/agent/completions" in page.text
    assert KEY not in page.text
    assert OTHER_KEY not in page.text
    for program in programs:
        assert program.json() == {"status": "swarmstream is running"}
        assert program.headers["content-type"] == "application/json"
    assert {answer.headers["vary"] for answer in (page, *programs, head)} == {"Accept"}
    [style] = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    policy = policy_of(page)
    assert policy["default-src"] == policy["frame-ancestors"] == ["'none'"]
    assert policy["style-src"] == [digest_of(style)]
    assert "script-src" not in policy


async def test_the_server_accepts_the_command_on_the_front_page() -> None:
    async with serving(default_model="demo/swarm") as url, client(url) as http:
        page = await http.get("/", headers={"accept": BROWSER})
        [body] = re.findall(r"-d &#x27;(.*?)&#x27;", page.text)
        payload = json.loads(body.replace("&quot;", '"'))
        answer = await http.post("/v1/agent/completions", json={**payload, "stream": False})
    assert answer.status_code == 200


async def test_an_invalid_host_header_does_not_reach_the_front_pages_command() -> None:
    names = ['x"><script>', "x; rm -rf ~", "$(reboot)", "a b", "x" * 254, "x:y", "[::1", "`id`"]
    async with serving() as url, client(url, key=None) as http:
        for name in names:
            page = await http.get("/", headers={"accept": BROWSER, "host": name})
            assert "curl -N http://127.0.0.1:8000/v1" in page.text, name
        for name in ("swarms.example", "swarms.example:8443", "[::1]:8000"):
            page = await http.get("/", headers={"accept": BROWSER, "host": name})
            assert f"curl -N http://{name}/v1" in page.text


@pytest.mark.parametrize(
    ("accept", "is_html"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("TEXT/HTML", True),
        ("text/*;q=0.5", True),
        ("text/html;q=0.9, application/json;q=0.8", True),
        ("text/html;level=1;q=0.9, */*;q=0.1", True),
        ("text/html, application/json", False),
        ("text/html;q=0.5, application/json", False),
        ("text/html;q=0", False),
        ("text/html;q=2", False),
        ("text/html;q=nan", False),
        ("*/*", False),
        ("application/json", False),
        ("text/event-stream", False),
        ("", False),
        (";;,,q=1", False),
    ],
)
def test_html_is_sent_only_if_it_is_preferred_to_json(accept: str, is_html: bool) -> None:
    assert prefers_html(accept) is is_html
