#!/usr/bin/env python3
"""A progress bar that follows the tokens of an answer.

    .venv/bin/python scripts/examples/progress_bar.py "Write a report on tea" --tokens 60

Nobody knows how long an answer will be: the bar is filled by the number of tokens that you expect, and by the end.
"""

import argparse

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from swarmstream import Agent


def main() -> None:
    parser = argparse.ArgumentParser(description="Show an answer's progress.")
    parser.add_argument("task")
    parser.add_argument("--model", default="demo/swarm")
    parser.add_argument("--tokens", type=int, default=60, help="how many to expect")
    options = parser.parse_args()
    agent = Agent(model_name=options.model, print_on=False)
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}"), TimeElapsedColumn()
    with Progress(*columns) as progress:
        bar = progress.add_task("tokens", total=options.tokens)

        def tick(_: str) -> None:
            progress.advance(bar)

        answer = agent.run(options.task, streaming_callback=tick)
        progress.update(bar, total=progress.tasks[0].completed)
    print(answer)


if __name__ == "__main__":
    main()
