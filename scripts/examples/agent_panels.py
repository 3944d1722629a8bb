#!/usr/bin/env python3
"""A panel for each agent of a team, side by side, drawn from the team's events.

    .venv/bin/python scripts/examples/agent_panels.py "Should we drink more tea?"

Panels go by `turn`, not by name: an agent may speak twice.
"""

import argparse

from rich.columns import Columns
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from swarmstream import Agent, AgentRearrange


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a panel for each agent.")
    parser.add_argument("task")
    parser.add_argument("--model", default="demo/swarm")
    options = parser.parse_args()
    names = ("Optimist", "Pessimist", "Judge")
    agents = [Agent(agent_name=name, system_prompt=f"You are the {name}.", model_name=options.model) for name in names]
    team = AgentRearrange(agents=agents, flow="Optimist, Pessimist -> Judge")
    panels: dict[int, Panel] = {}
    texts: dict[int, Text] = {}
    with Live(refresh_per_second=12) as live:
        for event in team.run_stream(options.task, with_events=True):
            turn = event.get("turn", 0)
            if event["type"] == "agent_start":
                texts[turn] = Text()
                panels[turn] = Panel(texts[turn], title=event["agent"], border_style="yellow", width=38)
            elif event["type"] == "token":
                texts[turn].append(event["token"])
            elif event["type"] == "agent_end":
                panels[turn].border_style = "green" if event["status"] == "success" else "red"
            live.update(Columns(list(panels.values())))


if __name__ == "__main__":
    main()
