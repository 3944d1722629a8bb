#!/usr/bin/env python3
"""Every event of a team's run in a file, one JSON object a line, while the answer goes to the terminal.

    .venv/bin/python scripts/examples/file_logging.py "AI in healthcare" run.jsonl

The file is flushed with each line: `tail -f run.jsonl` follows the run.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

from swarmstream import Agent, SequentialWorkflow


def main() -> None:
    parser = argparse.ArgumentParser(description="Log a run's events to a file.")
    parser.add_argument("task")
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="demo/swarm")
    options = parser.parse_args()
    team = SequentialWorkflow(
        agents=[
            Agent(agent_name="Researcher", system_prompt="List three facts.", model_name=options.model),
            Agent(agent_name="Writer", system_prompt="Make one paragraph of the facts.", model_name=options.model),
        ]
    )
    with options.file.open("a", buffering=1, encoding="utf-8") as log:
        for event in team.run_stream(options.task, with_events=True):
            log.write(json.dumps({"at": datetime.now(UTC).isoformat(), **event}) + "\n")
            if event["type"] == "agent_start":
                print(f"\n{event['agent']}:")
            elif event["type"] == "token":
                print(event["token"], end="", flush=True)
    print(f"\n\nlogged to {options.file}")


if __name__ == "__main__":
    main()
