"""Whether the server lives, and whether it takes new runs."""

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from app.api.deps import Runs
from app.api.schema import Status

router = APIRouter(tags=["health"])


@router.get("/", summary="A greeting")
async def root() -> Status:
    return Status(status="swarmstream is running")


@router.get("/health", summary="Whether the server answers")
async def health() -> Status:
    return Status(status="ok")


@router.get("/health/live", summary="Whether the process lives")
async def live() -> Status:
    return Status(status="ok")


@router.get("/health/ready", summary="Whether new runs are welcome", response_model=Status)
async def ready(runs: Runs) -> Response:
    """503 from the moment the server begins to stop."""
    return JSONResponse({"status": "ready"} if runs.ready else {"status": "draining"}, 200 if runs.ready else 503)
