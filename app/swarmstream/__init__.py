"""swarmstream: teams of LLM agents, every token streamed and tagged with its speaker; over HTTP and from Python."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from swarmstream.library import *  # noqa: F403
else:
    # Hidden from type checkers, which would take every name for one that is here.
    def __getattr__(name: str) -> object:
        """Import the Python face with the first use of one of its names; servers and commands start without it.

        Raises:
            AttributeError: the package has no such name.
        """
        if name == "__all__" or not name.startswith("_"):
            import swarmstream.library as library

            if name == "__all__" or name in library.__all__:
                return getattr(library, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
