"""The route `/`: a page for people who open the server's address, a greeting for programs."""

import re
from base64 import b64encode
from hashlib import sha256
from html import escape

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from swarmstream.api.catalog_shapes import Status
from swarmstream.api.state import Operator

_STYLE = """
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem }
pre { overflow-x: auto; padding: 1rem; border: 1px solid; border-radius: .5rem }
"""
_DIGEST = b64encode(sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_VARY = {"Vary": "Accept"}
_JSON = "application/json"

_DOCS = (
    '<li><a href="docs">docs</a>: the API, to read and to try; <a href="openapi.json">openapi.json</a> for tools</li>'
)
_HOST = re.compile(r"[\w.-]{1,253}(:[0-9]{1,5})?|\[[0-9a-fA-F:.]{2,45}\](:[0-9]{1,5})?", re.ASCII)
"""The hosts that are shown in a command that people paste into their shells."""

router = APIRouter()


@router.get("/", tags=["health"], summary="Greet", operation_id="get_root", response_model=Status)
async def root(request: Request, settings: Operator) -> Response:
    """For browsers, which ask for HTML, a page that says where to go."""
    if not prefers_html(request.headers.get("accept", "")):
        return Response(Status(status="swarmstream is running").model_dump_json(), headers=_VARY, media_type=_JSON)
    page = _page(_origin(request), has_docs=settings.docs)
    return HTMLResponse(page, headers={**_VARY, "Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"})


# Uptime monitors send HEAD.
router.head("/", include_in_schema=False)(root)


def prefers_html(accept: str) -> bool:
    """Tell whether an `Accept` header prefers HTML to JSON (RFC 9110, section 12.5.1); when in doubt, it does not."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        weight = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
        weights[media_type] = float(weight) if re.fullmatch(r"[01](\.[0-9]{0,3})?", weight) else 0.0

    def weight_of(media_type: str) -> float:
        ranges = (media_type, f"{media_type.split('/')[0]}/*", "*/*")
        return next((weights[known] for known in ranges if known in weights), 0.0)

    return weight_of("text/html") > weight_of(_JSON)


def _origin(request: Request) -> str:
    host = request.headers.get("host", "")
    return f"{request.url.scheme}://{host}" if _HOST.fullmatch(host) else "http://127.0.0.1:8000"


def _page(origin: str, *, has_docs: bool) -> str:
    command = (
        f"curl -N {origin}/v1/agent/completions \\\n"
        "  -H 'x-api-key: YOUR_KEY' -H 'Content-Type: application/json' \\\n"
        """  -d '{"agent_config": {"agent_name": "Poet"}, "task": "Why do cats purr?", "stream": true}'"""
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>swarmstream</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<h1>swarmstream is running</h1>
<p>It runs teams of LLM agents and streams every token.</p>
<ul>
{_DOCS if has_docs else ""}
<li><a href="health/ready">health/ready</a>: whether it takes new runs</li>
</ul>
<p>Watch an agent speak:</p>
<pre>{escape(command)}</pre>
<p>The key is one of those that the operator has set; <code>--dev</code> prints one where the server was started.</p>
</body>
</html>
"""
