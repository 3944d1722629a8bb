// @microsoft/fetch-event-source as pages use it, with as much of a browser as it asks for. What it has heard, as JSON.
import { fetchEventSource } from "@microsoft/fetch-event-source";

globalThis.window = globalThis;
globalThis.document = Object.assign(new EventTarget(), { hidden: false });

const { url, headers, body, givesUp, hidesAt } = JSON.parse(process.env.SCENARIO);
const heard = [];

class Refused extends Error {}

function turnTo(hidden) {
  document.hidden = hidden;
  document.dispatchEvent(new Event("visibilitychange"));
}

const options = {
  method: "POST",
  headers: { "Content-Type": "application/json", ...headers },
  body: JSON.stringify(body),
  onmessage({ id, event, data }) {
    heard.push([id, event, JSON.parse(data)]);
    if (Number(id) === hidesAt) {
      turnTo(true);
      setTimeout(turnTo, 100, false);
    }
  },
};
if (givesUp) {
  // Its own check of the content type goes with `onopen`; and without `onerror` it comes again after any failure.
  options.onopen = async (response) => {
    if (!response.ok) throw new Refused(`${response.status} ${(await response.json()).detail}`);
  };
  options.onerror = (error) => {
    if (error instanceof Refused) throw error;
  };
}

let outcome = "over";
try {
  await fetchEventSource(url, options);
} catch (error) {
  outcome = error.message;
}
console.log(JSON.stringify({ outcome, heard }));
process.exit(0); // node's fetch would keep its connections for a while
