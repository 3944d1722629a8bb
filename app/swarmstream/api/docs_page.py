"""The route `/docs`: Swagger UI, under a content policy that lets it load from this server only.

The page is on the origin of the API, where people type their keys: a third party's script could read them. Its
addresses are relative, so that it also works where a proxy serves the API below a prefix.
"""

from base64 import b64encode
from hashlib import sha256

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

_PACKAGE = "fastapi_swagger"
"""The package that contains Swagger UI; only its files are used, it is not imported."""
_ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")

_SCRIPT = """
fetch("openapi.json").then((answer) => answer.json()).then((spec) => {
  // Where the document is, the API is, also behind a proxy that adds a prefix.
  spec.servers = [{ url: new URL(".", location.href).href.replace(/\\/$/, "") }];
  SwaggerUIBundle({
    spec,
    dom_id: "#swagger-ui",
    layout: "BaseLayout",
    deepLinking: true,
    presets: [SwaggerUIBundle.presets.apis],
    validatorUrl: null,
  });
});
"""

_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>swarmstream: the API</title>
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script>{_SCRIPT}</script>
</body>
</html>
"""

_DIGEST = b64encode(sha256(_SCRIPT.encode()).digest()).decode()
_HEADERS = {
    # W3C CSP3; the images in Swagger UI's style sheet are `data:` addresses.
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self' 'sha256-{_DIGEST}'; style-src 'self'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}


_files = StaticFiles(packages=[(_PACKAGE, "resources")])

router = APIRouter()


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    return HTMLResponse(_PAGE, headers=_HEADERS)


async def _asset(request: Request) -> Response:
    """Return a file that the page loads. Browsers keep it, and ask each time whether it has changed (304)."""
    name = request.scope["path"].rpartition("/")[2]
    answer = await _files.get_response(name, request.scope)
    answer.headers["Cache-Control"] = "no-cache"
    return answer


for _name in _ASSETS:
    router.get(f"/docs/{_name}", include_in_schema=False)(_asset)
