// Drives the page in a real browser: `node page.mjs [NAME…]`. Without KINORA_URL it starts the mock server and runs everything;
// with KINORA_URL (and KINORA_KEY, where keys exist) only the flows that a real server can answer.
import { assert, browser } from "./helpers.mjs";
import { flows } from "./flows.mjs";
import { states } from "./states.mjs";
import { storyFlows, storyStates } from "./stories.mjs";

const real = process.env.KINORA_URL;
const MOST = 300_000; // milliseconds for one test
const wanted = process.argv.slice(2);
const server = real ? { url: real.endsWith("/") ? real : `${real}/`, stop() {} } : await (await import("./mock.mjs")).start();

const mock = async (options) => {
  const answer = await fetch(`${server.url}mock`, { method: "POST", body: JSON.stringify(options) });
  assert(answer.ok, "the mock server did not take the options");
};

const tools = { url: server.url, real: Boolean(real), key: process.env.KINORA_KEY, mock: real ? async () => {} : mock };
const tests = [...flows, ...storyFlows, ...(real ? [] : [...states, ...storyStates])].filter(([name]) => !wanted.length || wanted.some((word) => name.includes(word)));
let failed = 0;
for (const [name, test] of tests) {
  const begin = Date.now();
  try {
    const slow = setTimeout(() => browser.contexts().forEach((context) => context.close()), MOST);
    await test(tools).finally(() => clearTimeout(slow));
    console.log(`ok      ${name} (${Date.now() - begin} ms)`);
  } catch (error) {
    failed += 1;
    await Promise.all(browser.contexts().map((context) => context.close())); // a page left open would slow the next test down
    console.log(`FAILED  ${name}\n${String(error.stack ?? error).replace(/^/gm, "        ")}`);
  }
}
console.log(`${tests.length - failed} of ${tests.length} passed`);
await browser.close();
server.stop();
process.exit(failed || !tests.length ? 1 : 0);
