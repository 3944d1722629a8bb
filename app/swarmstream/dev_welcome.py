"""The text that `serve --dev` prints once it listens: the key, and a command to try."""

import json
import shlex
from pathlib import Path

from swarmstream import __version__
from swarmstream.dev_key import DevKey

_PAYLOAD = {
    "name": "try-it",
    "swarm_type": "AgentRearrange",
    "rearrange_flow": "Optimist, Pessimist -> Summary",
    "task": "AI in healthcare",
    "stream": True,
    "stream_options": {"include_output": False},
    "agents": [
        {"agent_name": "Optimist", "system_prompt": "Write three upbeat sentences about the topic."},
        {"agent_name": "Pessimist", "system_prompt": "Write three cautious sentences about the topic."},
        {"agent_name": "Summary", "system_prompt": "Write one short summary line of the prior views."},
    ],
}


def dev_welcome(url: str, key: DevKey, data_dir: Path | None, *, is_terminal: bool) -> str:
    """Return the text for a server at this URL. `is_terminal` is false where a file collects the output.

    A key that the operator has set is shown on a terminal only: it may be in use elsewhere.
    """
    is_shown = not key.is_configured or is_terminal
    header = shlex.quote(f"x-api-key: {key.value}") if is_shown else '"x-api-key: $KEY"'
    runs = "in memory: they end with this server" if data_dir is None else f"written down in {data_dir.absolute()}"
    return f"""
swarmstream {__version__}, for development, on {url}

  docs:  {url}/docs
  key:   {key.value if is_shown else "$KEY"}  ({key.origin})
  runs:  {runs}

Watch three agents stream; paste this into another terminal:

curl -N {url}/v1/swarm/completions -H {header} -H 'Content-Type: application/json' -d '{json.dumps(_PAYLOAD)}'
"""
