"""`/docs`: Swagger UI, under a policy that lets it load nothing but itself.

The page is on the origin of the API, where people type their keys: a script of anybody else's could read them.
"""

import re
from base64 import b64encode
from hashlib import sha256

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, Response

router = APIRouter()

_SWAGGER_UI = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/"
_PAGE = bytes(
    get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="swarmstream - Swagger UI",
        swagger_js_url=f"{_SWAGGER_UI}swagger-ui-bundle.js",
        swagger_css_url=f"{_SWAGGER_UI}swagger-ui.css",
        swagger_favicon_url="data:,",
    ).body
)


def _policy_of(page: bytes) -> str:
    """The `Content-Security-Policy` under which the page works (W3C CSP3); its own scripts are known by digest."""
    own = [b64encode(sha256(script).digest()).decode() for script in re.findall(rb"<script>(.*?)</script>", page, re.S)]
    scripts = " ".join([_SWAGGER_UI, *(f"'sha256-{digest}'" for digest in own)])
    return (
        f"default-src 'none'; script-src {scripts}; style-src {_SWAGGER_UI} 'unsafe-inline'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


_HEADERS = {"Content-Security-Policy": _policy_of(_PAGE)}


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    return HTMLResponse(_PAGE, headers=_HEADERS)
