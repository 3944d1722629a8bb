"""The client code of the hosted API's swarm-streaming tutorial, unchanged but for base URL and key.

Quoted because the contract is that these very lines run against us (tests/api/test_sequential_streaming.py and
tests/api/test_rearrange_streaming.py).
"""
# pyright: basic

import json
import time

import requests


def headers(key):
    return {
        "x-api-key": key,
        "Content-Type": "application/json",
        "Connection": "keep-alive",
        "X-Accel-Buffering": "no",
    }


def parse_sse_events(response):
    events = []
    current_event = None
    for line in response.iter_lines(decode_unicode=True):
        if line is None:
            continue
        if line.startswith("event:"):
            current_event = line[len("event:") :].strip()
        elif line.startswith("data:"):
            raw = line[len("data:") :].strip()
            try:
                data = json.loads(raw)
            except json.JSONDecodeError:
                data = {"raw": raw}
            events.append(
                {
                    "event": current_event or "message",
                    "data": data,
                    "received_at": time.perf_counter(),
                }
            )
            current_event = None
        elif line == "":
            current_event = None
    return events


def make_agent(name, system_prompt):
    return {
        "agent_name": name,
        "system_prompt": system_prompt,
        "model_name": "gpt-4.1-mini",
        "role": "worker",
        "max_loops": 1,
    }


def stream_sequential(base_url, key):
    payload = {
        "name": "streaming-sequential-example",
        "swarm_type": "SequentialWorkflow",
        "task": "List two short bullets about solid-state batteries.",
        "stream": True,
        "max_loops": 1,
        "agents": [
            make_agent("Researcher", "List two short bullets on the topic."),
            make_agent("Writer", "Combine the bullets into one short paragraph."),
        ],
    }

    response = requests.post(
        f"{base_url}/v1/swarm/completions",
        headers=headers(key),
        json=payload,
        stream=True,
        timeout=120,
    )
    response.raise_for_status()

    current_agent = None
    event_name = None
    for line in response.iter_lines(decode_unicode=True):
        if not line:
            continue
        if line.startswith("event:"):
            event_name = line[len("event:") :].strip()
            continue
        if line.startswith("data:"):
            try:
                data = json.loads(line[len("data:") :].strip())
            except json.JSONDecodeError:
                continue
            if event_name == "agent_start":
                current_agent = data.get("agent")
                print(f"\n\n--- {current_agent} starting ---")
            elif event_name == "chunk":
                token = data.get("content") or ""
                print(token, end="", flush=True)
            elif event_name == "agent_end":
                print(f"\n--- {data.get('agent')} done ---")
            elif event_name == "usage":
                print(f"\n[usage] total_tokens={data.get('total_tokens')}")
            elif event_name == "end":
                elapsed = data.get("execution_time")
                print(f"\n[end] {elapsed:.2f}s" if elapsed else "\n[end]")


def stream_rearrange(base_url, key):
    payload = {
        "name": "streaming-rearrange-example",
        "swarm_type": "AgentRearrange",
        "rearrange_flow": "Optimist, Pessimist -> Summary",
        "task": "AI in healthcare",
        "stream": True,
        "max_loops": 1,
        "agents": [
            make_agent("Optimist", "Write 4-6 upbeat sentences about the topic. Be detailed."),
            make_agent("Pessimist", "Write 4-6 cautious sentences about the topic. Be detailed."),
            make_agent("Summary", "Write one short summary line of the prior views."),
        ],
    }

    response = requests.post(
        f"{base_url}/v1/swarm/completions",
        headers=headers(key),
        json=payload,
        stream=True,
        timeout=120,
    )
    response.raise_for_status()

    return parse_sse_events(response)


def count_flips(events):
    chunk_events = [e for e in events if e["event"] == "chunk"]
    parallel_agents_seen = [
        e["data"].get("agent") for e in chunk_events if e["data"].get("agent") in ("Optimist", "Pessimist")
    ]
    return sum(1 for i in range(1, len(parallel_agents_seen)) if parallel_agents_seen[i] != parallel_agents_seen[i - 1])


def render_per_agent(response):
    panels: dict[str, str] = {}
    current_event = None
    for line in response.iter_lines(decode_unicode=True):
        if not line:
            continue
        if line.startswith("event:"):
            current_event = line[len("event:") :].strip()
        elif line.startswith("data:"):
            data = json.loads(line[len("data:") :].strip())
            if current_event == "agent_start":
                panels[data["agent"]] = ""
            elif current_event == "chunk":
                agent = data.get("agent", "unknown")
                panels[agent] = panels.get(agent, "") + (data.get("content") or "")
            elif current_event == "end":
                break
    return panels
