// What a page of another site can do to a real server: `KINORA_URL=http://127.0.0.1:PORT/ node evil.mjs`. The page is served under a
// name of its own, on another port of the server's name, and under a name that leads to the server (rebinding). Everything that a
// browser can send is tried; afterwards nothing may have changed, and nothing may have been readable. Without keys, the browser's own
// address is all that it would need; with KINORA_KEY, the browser is signed in, and its cookie goes along wherever browsers send it.
import { createServer } from "node:http";
import { chromium } from "playwright-core";
import { assert, equal } from "./helpers.mjs";

const server = new URL(process.env.KINORA_URL);
const key = process.env.KINORA_KEY;
const SECRET = `secret-${Date.now()}`;
const SMALL = { prompt: SECRET, width: 32, height: 48, frames: 5, sampling: { steps: 2 } };

const sent = new Set();
const page = createServer((request, answer) => {
  sent.add(`${request.method} ${request.url.replace(/video_\w+/, "ID")} ${request.headers.origin ?? ""} ${(request.headers["content-type"] ?? "").split(";")[0]}`);
  answer.setHeader("content-type", "text/html");
  answer.end("<!doctype html><title>evil</title><body>");
});
await new Promise((resolve) => page.listen(0, "127.0.0.1", resolve));
const port = page.address().port;

const own = async (method, path, body) => {
  const headers = { ...(body && { "content-type": "application/json" }), ...(key && { authorization: `Bearer ${key}` }) };
  const answer = await fetch(new URL(path, server), { method, headers, body: body && JSON.stringify(body) });
  assert(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.status === 204 ? null : answer.json();
};

/** Everything that an attack could have changed. */
async function state() {
  const { clips } = await own("GET", "api/clips?limit=200");
  const { files } = await own("GET", "api/files");
  return JSON.stringify({ clips: clips.map(({ id, status, starred, paused, request }) => ({ id, status, starred, paused, request })), files });
}

/** Runs in the evil page: tries everything, and returns what it could read. */
async function attack({ base, id, onlyReads }) {
  const wait = onlyReads ? 8000 : 1500;
  const read = {};
  const all = [];
  const tryIt = async (name, work) => {
    try {
      read[name] = await Promise.race([work(), new Promise((resolve) => setTimeout(() => resolve("nothing came"), wait))]);
    } catch (error) {
      read[name] = `refused: ${error.message}`;
    }
  };
  // Four at a time: a browser has six connections to a server.
  let turns = [null, null, null, null].map(() => Promise.resolve());
  const note = (name, work) => {
    const turn = turns.shift().then(() => tryIt(name, work));
    turns.push(turn);
    all.push(turn);
  };
  const clip = JSON.stringify({ prompt: "evil", width: 32, height: 48, frames: 5 });
  const form = () => {
    const data = new FormData();
    data.append("prompt", "evil");
    data.append("size", "32x48");
    return data;
  };
  const text = async (answer) => `${answer.type} ${answer.status} ${await answer.text()}`;
  const paths = ["api/me", "api/clips", "api/events", `api/clips/${id}`, `api/clips/${id}/link`, `v1/videos/${id}/content`, "v1/videos", "openapi.json", "healthz"];
  for (const path of paths) {
    note(`fetch ${path}`, async () => text(await fetch(base + path, { credentials: "include" })));
    note(`fetch without reading ${path}`, async () => text(await fetch(base + path, { mode: "no-cors", credentials: "include" })));
  }
  const sends = [["POST", "api/clips", clip], ["POST", "v1/videos", clip], ["POST", "api/queue", '{"paused":true}'], ["POST", "api/queue/cancel", ""], ["POST", `api/clips/${id}/cancel`, ""], ["POST", "api/clips/delete", JSON.stringify({ ids: [id] })], ["POST", "api/session", '{"key":"kin_x"}']];
  for (const [method, path, body] of onlyReads ? [] : sends) {
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/json"]) {
      note(`${method} ${path} as ${type}`, async () => text(await fetch(base + path, { method, body, headers: { "content-type": type }, mode: type === "application/json" ? "cors" : "no-cors", credentials: "include" })));
    }
  }
  if (!onlyReads) {
    note("DELETE", async () => text(await fetch(`${base}api/clips/${id}`, { method: "DELETE" })));
    note("PATCH", async () => text(await fetch(`${base}api/clips/${id}`, { method: "PATCH", body: '{"starred":true}', headers: { "content-type": "application/json", "x-kinora": "1" } })));
    note("a form by fetch", async () => text(await fetch(`${base}v1/videos`, { method: "POST", body: form(), mode: "no-cors", credentials: "include" })));
    note("an upload", async () => text(await fetch(`${base}api/files`, { method: "POST", body: form(), mode: "no-cors" })));
    note("a beacon", async () => `sent ${navigator.sendBeacon(`${base}v1/videos`, form())}`);
  }
  const element = (name, tag, attributes, events, seen) =>
    note(name, () => new Promise((resolve) => {
      const made = Object.assign(document.createElement(tag), attributes);
      for (const event of events) made.addEventListener(event, () => resolve(`${event} ${seen(made)}`));
      document.body.append(made);
    }));
  for (const part of ["thumbnail", "last", "sheet", "preview"]) {
    element(`img ${part}`, "img", { src: `${base}api/clips/${id}/${part}` }, ["load", "error"], (img) => img.naturalWidth);
  }
  for (const source of [`${base}v1/videos/${id}/content`, `${base}api/clips/${id}/video`]) {
    element(`video ${source}`, "video", { src: source, muted: true }, ["loadedmetadata", "error"], (video) => `${video.duration} ${video.videoWidth}`);
    element(`video with CORS ${source}`, "video", { src: source, muted: true, crossOrigin: "use-credentials" }, ["loadedmetadata", "error"], (video) => video.videoWidth);
  }
  element("script", "script", { src: `${base}api/clips` }, ["load", "error"], () => "");
  element("style", "link", { rel: "stylesheet", href: `${base}style.css` }, ["load", "error"], () => "");
  element("frame", "iframe", { src: base }, ["load"], (frame) => String(frame.contentDocument?.body?.innerHTML));
  note("EventSource", () => new Promise((resolve) => {
    const source = new EventSource(`${base}api/events`, { withCredentials: true });
    source.addEventListener("snapshot", (event) => resolve(`snapshot ${event.data}`));
    source.onerror = () => resolve("error");
  }));
  note("WebSocket", () => new Promise((resolve) => {
    const socket = new WebSocket(`${base.replace("http", "ws")}api/events`);
    socket.onopen = () => resolve("open");
    socket.onerror = () => resolve("error");
  }));
  // Forms, from a frame of this page and from one whose origin is `null`.
  for (const [sandbox, type] of onlyReads ? [] : [[null, "multipart/form-data"], [null, "text/plain"], ["allow-scripts allow-forms", "multipart/form-data"], ["allow-scripts allow-forms", "text/plain"]]) {
    for (const path of ["v1/videos", "api/clips", "api/queue/cancel", "api/queue"]) {
      note(`form ${sandbox ? "without an origin" : ""} ${type} ${path}`, () => new Promise((resolve) => {
        const frame = document.createElement("iframe");
        if (sandbox) frame.setAttribute("sandbox", sandbox);
        const value = type === "text/plain" ? '{"paused":true,"prompt":"evil","x":"' : "evil";
        const field = type === "text/plain" ? `<input name='${value}' value='"}'>` : `<input name=prompt value=evil><input name=size value=32x48>`;
        frame.srcdoc = `<form method=post enctype="${type}" action="${base}${path}">${field}</form><script>document.forms[0].submit()</scr` + "ipt>";
        let loads = 0;
        frame.onload = () => (loads += 1) === 2 && resolve(`loaded ${frame.contentDocument?.body?.textContent ?? "unreadable"}`);
        document.body.append(frame);
      }));
    }
  }
  await Promise.all(all);
  return read;
}

const { clips } = await own("POST", "api/clips", SMALL);
const id = clips[0].id;
while (!["succeeded", "failed"].includes((await own("GET", `api/clips/${id}`)).status)) await new Promise((resolve) => setTimeout(resolve, 100));
// One that waits, for those who would cancel it.
await own("POST", "api/queue", { paused: true });
const waiting = (await own("POST", "api/clips", { ...SMALL, sampling: { steps: 90 } })).clips[0].id;
await own("PATCH", `api/clips/${waiting}`, { paused: true }).catch(() => {});
while ((await own("GET", `api/clips/${waiting}`)).status === "running") await new Promise((resolve) => setTimeout(resolve, 100));

const names = ["evil.test", "rebind.test", "localhost.evil.test"];
const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", `--host-resolver-rules=${names.map((name) => `MAP ${name} 127.0.0.1`).join(",")}`];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: flags });
/** A tab of a browser that is signed in, where there are keys. */
async function open(address) {
  const context = await browser.newContext();
  if (key) equal((await context.request.post(new URL("api/session", server).href, { data: { key } })).status(), 204, "signing in");
  const tab = await context.newPage();
  return [tab, await tab.goto(address)];
}

const before = await state();
let tried = 0;
let failed = 0;
const check = async (where, read) => {
  for (const [what, got] of Object.entries(read)) {
    tried += 1;
    const known = String(got);
    const leaked = known.includes(SECRET) || known.includes("snapshot") || known.startsWith("open") || /^(load|loadedmetadata) .*[1-9]/.test(known) || /^(basic|cors|default) 2/.test(known);
    if (leaked) {
      failed += 1;
      console.log(`LEAK    ${where}: ${what}: ${known.slice(0, 200)}`);
    }
  }
  const after = await state();
  if (after !== before) {
    failed += 1;
    console.log(`CHANGED ${where}:\n${before}\n${after}`);
  }
};
for (const origin of [`http://evil.test:${port}/`, `http://127.0.0.1:${port}/`, `http://localhost.evil.test:${port}/`]) {
  const [tab] = await open(origin);
  const read = await tab.evaluate(attack, { base: server.href, id });
  assert(Object.keys(read).length > 60, `only ${Object.keys(read).length} things were tried from ${origin}`);
  if (process.env.VERBOSE) console.log(origin, read);
  await check(origin, read);
}
// A name that leads here: the browser takes it for the same site, and only the server can tell.
const rebound = `http://rebind.test:${server.port}/`;
const [tab, answer] = await open(rebound);
equal(answer.status(), 421, "a page under another name");
const read = await tab.evaluate(attack, { base: rebound, id });
await check(rebound, read);
assert(String(read["fetch api/clips"]).includes("421"), `what a rebound page reads: ${read["fetch api/clips"]}`);
// What the page itself can do is seen as such: the same attempts find something where they may.
const [allowed] = await open(server.href);
const found = await allowed.evaluate(attack, { base: server.href, id, onlyReads: true });
for (const [what, sign] of [["fetch api/clips", SECRET], [`fetch api/clips/${id}/link`, "signature"], ["img thumbnail", "load"], [`video ${server.href}api/clips/${id}/video`, "loadedmetadata"], ["EventSource", SECRET]]) {
  assert(String(found[what]).includes(sign), `the server's own page: ${what}: ${String(found[what]).slice(0, 200)}`);
}
// And the browser does send what was tried: a server that refuses nothing gets it all.
sent.clear();
const [mirror] = await open(`http://evil.test:${port}/`);
await mirror.evaluate(attack, { base: `http://127.0.0.1:${port}/`, id });
for (const origin of [`http://evil.test:${port}`, "null"]) {
  for (const path of ["v1/videos", "api/clips", "api/queue/cancel", "api/queue"]) {
    for (const type of ["multipart/form-data", "text/plain"]) {
      assert(sent.has(`POST /${path} ${origin} ${type}`), `the browser did not send a form of ${type} to ${path} from ${origin}`);
    }
  }
}
await browser.close();
page.close();
await own("POST", "api/queue", { paused: false });
console.log(`${tried} attempts, ${failed} of them did something`);
process.exit(failed ? 1 : 0);
