"""The door of the API: a request becomes a call of somebody whose key is valid."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from swarmstream.api.state import AppState, state_of
from swarmstream.runs.owned_runs import OwnedRuns
from swarmstream.shares import Owner, current_owner
from swarmstream.tools.policy import AllowedTools


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A request with a valid key, and the parts of the server that answer it."""

    request: Request
    state: AppState
    caller: str
    """The opaque name of the key's holder, who owns the runs that the call is about."""

    @property
    def runs(self) -> OwnedRuns:
        """The caller's runs; nobody else's can be reached from here."""
        return self.state["supervisor"].runs_of(self.caller)

    @property
    def tools(self) -> AllowedTools:
        """The tools that the caller's agents may have."""
        return self.state["tools"].of(self.caller)

    @property
    def request_id(self) -> str:
        """The id that the answer and the log name the request by."""
        return self.request.state.request_id


# A coroutine function although it waits for nothing: FastAPI runs plain ones in a thread.
async def admit(request: Request) -> ApiCall:
    """Return the request as a call of the holder of its key.

    Raises:
        InvalidKey: it has no key, or one that is not valid.
    """
    state = state_of(request)
    caller = state["keys"].authenticate(request.headers)
    return admit_owner(request, state, caller)


def admit_owner(request: Request, state: AppState, owner: str) -> ApiCall:
    """Return the request as a call of an owner who is known already; what it reads counts for this owner's share."""
    current_owner.set(Owner(owner, of=len(state["keys"])))
    return ApiCall(request, state, owner)


Call = Annotated[ApiCall, Depends(admit)]
