// npm's eventsource with a stream token, on a run in the background. What it has heard until it closes, as JSON.
import { EventSource } from "eventsource";

const { url, headers, body } = JSON.parse(process.env.SCENARIO);
const heard = [];

async function post(path, content) {
  const options = { method: "POST", headers: { "Content-Type": "application/json", ...headers } };
  const response = await fetch(url + path, { ...options, body: JSON.stringify(content) });
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  return response.json();
}

const { job_id: job } = await post("/v1/swarm/completions", { ...body, stream: false, background: true });
const { token } = await post(`/v1/runs/${job}/stream-token`, {});
const source = new EventSource(`${url}/v1/runs/${job}/stream?token=${token}`);
for (const name of ["metadata", "start", "agent_start", "chunk", "agent_end", "error", "usage", "end"]) {
  source.addEventListener(name, ({ lastEventId, data }) => data && heard.push([lastEventId, name, JSON.parse(data)]));
}
// It never closes itself: after the end it comes once more, and is told by a 204 that there is nothing left.
source.addEventListener("error", ({ code }) => {
  if (source.readyState === EventSource.CLOSED) {
    console.log(JSON.stringify({ outcome: String(code), heard }));
    process.exit(0);
  }
});
