// What a front end writes with types generated from openapi/openapi.json, with openapi-typescript's default options.
// It is compiled, not run.
import type { components, operations, paths } from "./swarmstream.js";

type Schemas = components["schemas"];
type SwarmEvent = Schemas["SwarmEvent"];
type RunSwarm = operations["run_swarm"];

export const team: Schemas["SwarmRequest"] = {
  agents: [{ agent_name: "Biologist", system_prompt: "Answer in two sentences." }],
  task: "Why do cats purr?",
};
export const one: Schemas["AgentRequest"] = {
  agent_config: { agent_name: "Biologist" },
  task: "Why do cats purr?",
  stream: true,
  stream_options: { include_output: false },
  timeout: null,
};
export const headers: NonNullable<RunSwarm["parameters"]["header"]> = { "Idempotency-Key": "once" };
export const again: operations["stream_run"]["parameters"]["query"] = { starting_after: 7, include_output: false };
export const body: RunSwarm["requestBody"]["content"]["application/json"] = team;

export const misspelt: Schemas["SwarmRequest"] = {
  agents: [],
  // @ts-expect-error: nobody knows it
  taks: "Why do cats purr?",
};
// @ts-expect-error: a team has agents
export const nobody: Schemas["SwarmRequest"] = { task: "Why do cats purr?" };
// @ts-expect-error: an agent is needed
export const empty: Schemas["AgentRequest"] = { task: "Why do cats purr?" };

export interface Panels {
  cursor: number;
  panels: Record<number, { agent: string; text: string; warnings: string[]; costUsd?: number }>;
  lost: number;
  status?: Schemas["SwarmEndFrame"]["status"];
}

export function reduce(state: Panels, event: SwarmEvent): Panels {
  if (event.event === "gap") return { ...state, lost: event.data.first_available - event.data.requested };
  const next = { ...state, cursor: event.id };
  switch (event.event) {
    case "agent_start":
      next.panels[event.data.turn] = { agent: event.data.agent, text: "", warnings: [] };
      return next;
    case "chunk": {
      const panel = next.panels[event.data.turn];
      if (panel) panel.text = event.data.output ?? panel.text + event.data.content;
      return next;
    }
    case "turn_restart": {
      const panel = next.panels[event.data.turn];
      if (panel) panel.text = "";
      return next;
    }
    case "agent_end": {
      const panel = next.panels[event.data.turn];
      if (panel) panel.costUsd = event.data.usage.cost_usd;
      return next;
    }
    case "end":
      return { ...next, status: event.data.status };
    case "metadata":
    case "start":
    case "reasoning":
    case "tool_start":
    case "tool_end":
    case "custom":
    case "error":
    case "usage":
      return next;
    default: {
      const unknown: never = event;
      return unknown;
    }
  }
}

type Answers = paths["/v1/swarm/completions"]["post"]["responses"];
type BodyOf<Status extends keyof Answers, Kind extends string> = Answers[Status] extends { content: Record<Kind, infer Body> }
  ? Body
  : never;

export function told(answer: BodyOf<200, "application/json">): string {
  return answer.output.map((entry) => (typeof entry.content === "string" ? entry.content : entry.content.length)).join();
}
export function queued(answer: BodyOf<202, "application/json">): string {
  return answer.job_id;
}
export function refused(problem: BodyOf<402, "application/problem+json"> | BodyOf<422, "application/problem+json">): string {
  return "job_id" in problem ? `${problem.job_id}: ${problem.code}` : problem.code;
}
