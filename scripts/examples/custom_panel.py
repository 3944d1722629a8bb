#!/usr/bin/env python3
"""A panel of your own around an answer that grows, drawn with rich.

scripts/examples/custom_panel.py "Write a short story"
"""

import argparse

from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from swarmstream import Agent


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw an answer in a panel.")
    parser.add_argument("task")
    parser.add_argument("--model", default="demo/swarm")
    options = parser.parse_args()
    agent = Agent(agent_name="Storyteller", model_name=options.model, print_on=False)
    text = Text()

    def panel(title: str) -> Panel:
        return Panel(text, title=title, border_style="blue")

    with Live(panel("thinking"), refresh_per_second=12) as live:

        def show(token: str) -> None:
            text.append(token)  # as it is: rich reads no markup in a Text
            live.update(panel("writing"))

        agent.run(options.task, streaming_callback=show)
        live.update(panel("done"))


if __name__ == "__main__":
    main()
