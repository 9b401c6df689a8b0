// Server-sent events by fetch, since EventSource cannot send the key in a header. Reconnects whenever the connection is lost.
import { errorMessage, request } from "./key.js";

const SILENT_MS = 25000;
const LONGEST_MS = 10000;

// Calls `on.event(name, data)` and `on.state(state, text)`; `restart()` reconnects, for example with another key.
export function watch(path, on) {
  let controller = new AbortController();
  let wakeUp = () => {};
  let tries = 0;

  async function readStream() {
    controller = new AbortController();
    const response = await request(path, { signal: controller.signal });
    if (response.status === 401 || response.status === 403) throw { refused: await errorMessage(response) };
    if (!response.ok) throw new Error(await errorMessage(response));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const silence = setTimeout(() => controller.abort(), SILENT_MS);
      const { value, done } = await reader.read().finally(() => clearTimeout(silence));
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const name = /^event: (.*)$/m.exec(event)?.[1];
        const data = /^data: (.*)$/m.exec(event)?.[1];
        if (!name) continue;
        tries = 0;
        on.event(name, JSON.parse(data));
      }
    }
  }

  const pause = (ms) => new Promise((done) => { wakeUp = done; setTimeout(done, ms); });

  async function run() {
    for (;;) {
      try {
        await readStream();
      } catch (error) {
        if (error.refused) {
          on.state("refused", error.refused);
          await new Promise((done) => { wakeUp = done; });
          tries = 0;
          continue;
        }
        const wait = Math.min(1000 * 2 ** tries++, LONGEST_MS);
        on.state("lost", `Connection lost, retrying in ${Math.round(wait / 1000)} s`);
        await pause(wait);
      }
    }
  }

  run();
  return { restart() { on.state("connecting", "Connecting…"); controller.abort(); wakeUp(); } };
}
