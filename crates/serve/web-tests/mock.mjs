// A server of the page without models: `node mock.mjs [PORT]`. It answers /api as the real one does, with made-up clips.
// POST /mock with options (empty, many, busy, limited, full, signin, slow, still, error, broken) begins anew; {"down": ms} is a restart.
import { createServer } from "node:http";
import { existsSync, readFileSync } from "node:fs";
import { extname, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { media } from "./mock-media.mjs";
import { add, failure, me, number, plan, promptOf, reset, send, shown, startTime, state, waiting } from "./mock-state.mjs";

const WEB = fileURLToPath(new URL("../web/", import.meta.url));
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp", ".mp4": "video/mp4" };
const HEADERS = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "cache-control": "no-store",
};
let downUntil = 0;
const streams = new Set();

function json(response, status, body) {
  response.writeHead(status, { ...HEADERS, "content-type": "application/json" });
  response.end(body === undefined ? "" : JSON.stringify(body));
}

async function bodyOf(request) {
  const parts = [];
  for await (const part of request) {
    parts.push(part);
    if (state.options.slow) await new Promise((resolve) => setTimeout(resolve, 40));
  }
  return Buffer.concat(parts);
}

/** Bytes of a file, whole or the part that a `Range` asks for. */
function bytes(request, response, type, data, extra = {}) {
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const headers = { ...HEADERS, ...extra, "content-type": type, "accept-ranges": "bytes" };
  if (!range) return response.writeHead(200, { ...headers, "content-length": data.length }).end(data);
  const [from, to] = [Number(range[1]), range[2] ? Number(range[2]) : data.length - 1];
  return response.writeHead(206, { ...headers, "content-range": `bytes ${from}-${to}/${data.length}`, "content-length": to - from + 1 }).end(data.subarray(from, to + 1));
}

const clipOf = (id) => {
  const clip = state.clips.get(id);
  if (!clip) throw failure(404, `there is no clip ${id}`, { code: "not_found" });
  return clip;
};

const changed = (clip) => {
  send("clip", shown(clip));
  number();
  return shown(clip);
};

function list(query) {
  const statuses = query.get("status")?.split(",");
  const text = query.get("text")?.toLowerCase();
  const after = query.get("after");
  const all = [...state.clips.values()].sort((a, b) => (a.id < b.id ? 1 : -1)).filter((clip) => (!statuses || statuses.includes(clip.status)) && (query.get("starred") !== "true" || clip.starred)
    && (!text || promptOf(clip.request).toLowerCase().includes(text)) && (!after || clip.id < after));
  const limit = Number(query.get("limit") ?? 20);
  return { clips: all.slice(0, limit).map(shown), has_more: all.length > limit };
}

function create(request) {
  const { count = 1, ...rest } = request;
  if (state.options.full) throw failure(429, "100 clips are waiting, which is the most that this server keeps; try again when some are done", { code: "queue_full" });
  if (state.options.error) throw failure(500, "the store could not be written: the disk is full", { code: "internal" });
  if (rest.prompt?.includes("FORBIDDEN")) throw failure(400, "the prompt is longer than 4,000 characters", { param: "prompt", code: "too_long" });
  const clips = Array.from({ length: count }, (_, n) => add(rest, { now: Date.now() + n }));
  clips.forEach((clip) => send("clip", shown(clip)));
  number();
  return { clips: clips.map(shown) };
}

function patch(clip, { starred, paused, request, before }) {
  if (starred !== undefined) clip.starred = starred;
  if (paused !== undefined) clip.paused = paused;
  if (request) Object.assign(clip, { request: { ...request }, plan: plan(request).plan });
  if (before !== undefined) {
    const others = waiting().filter((one) => one !== clip);
    const at = before === null ? 0 : others.findIndex((one) => one.id === before);
    others.splice(at, 0, clip);
    others.forEach((one, n) => (one.rank = n));
  }
  return changed(clip);
}

function cancel(clip) {
  if (clip.status === "queued") Object.assign(clip, { status: "cancelled", finished_at: Date.now(), position: undefined });
  if (clip.status === "running") clip.status = "cancelling";
  return changed(clip);
}

function forget(ids) {
  const known = ids.filter((id) => state.clips.delete(id));
  known.forEach((id) => send("gone", { id }));
  return known.length;
}

const oldOnes = (before) => [...state.clips.values()].filter((clip) => before !== undefined && clip.finished_at && clip.created_at < before && !clip.starred).map((clip) => clip.id);

function upload(type, body) {
  const boundary = /boundary=(.+)$/.exec(type)[1];
  const head = body.indexOf("\r\n\r\n");
  const name = /filename="([^"]*)"/.exec(body.subarray(0, head).toString())?.[1] ?? "file";
  const data = body.subarray(head + 4, body.lastIndexOf(`\r\n--${boundary}`));
  if (name.includes("huge")) throw failure(413, "the picture has 90 megapixels, and at most 40 are read", { param: "file", code: "too_large" });
  const video = /\.(mp4|webm|mov)$/.test(name);
  const id = `file_${state.clips.size}${Date.now().toString(36)}`;
  const asset = { id, media: video ? "video" : "image", width: 480, height: 272, name, bytes: data.length, created_at: Date.now() };
  state.files.set(id, { asset, data, type: video ? "video/mp4" : "image/png" });
  return asset;
}

function events(response) {
  response.writeHead(200, { ...HEADERS, "content-type": "text/event-stream" });
  const write = (event, data) => response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  const open = [...state.clips.values()].filter((clip) => ["queued", "running", "cancelling"].includes(clip.status));
  const done = list(new URLSearchParams({ limit: 50, status: "succeeded,failed,cancelled,expired" })).clips;
  write("snapshot", { clips: [...open.map(shown), ...done], me: me() });
  state.listeners.add(write);
  streams.add(response);
  response.on("close", () => (state.listeners.delete(write), streams.delete(response)));
}

function clipPart(request, response, clip, part, query) {
  const look = clip.look;
  if (part === "video") return bytes(request, response, "video/mp4", media(`${look}.mp4`), query.get("download") ? { "content-disposition": `attachment; filename="${clip.id}.mp4"` } : {});
  if (part === "thumbnail" || part === "sheet") return bytes(request, response, "image/png", media(`${look}.png`));
  if (part === "last") return bytes(request, response, "image/png", media(`${look}-last.png`));
  if (part === "preview") return bytes(request, response, "image/webp", media(`${look}-preview${Math.min(3, Math.max(1, Math.ceil(Number(query.get("n")) / 2)))}.webp`));
  if (part === "recipe") return json(response, 200, { prompt: promptOf(clip.request), seed: clip.seed });
  throw failure(404, "there is no such part", { code: "not_found" });
}

/** The models; with the option `broken`, one or all of them cannot be used. */
function modelsShown() {
  const { broken } = state.options;
  const wrong = (name) => ({ name, default: false, longest_seconds: 180, problem: "there is no model in a file of the server" });
  if (broken === "all") return state.models.map(({ name }) => wrong(name));
  return broken ? [...state.models, wrong("mine")] : state.models;
}

async function api(request, response, path, query) {
  const { method } = request;
  const [first, id, part] = path;
  const body = method === "GET" ? null : await bodyOf(request);
  if (method !== "GET" && request.headers["x-kinora"] !== "1") throw failure(403, "the header x-kinora is missing", { code: "forbidden" });
  const sent = body?.length && /json/.test(request.headers["content-type"]) ? JSON.parse(body) : {};
  if (first === "session" && method === "POST") {
    if (sent.key !== state.key) throw failure(401, "this key is not known here, or it was revoked", { code: "invalid_api_key" });
    return response.writeHead(204, { ...HEADERS, "set-cookie": "session=mock; HttpOnly; SameSite=Strict; Path=/" }).end();
  }
  if (first === "session") return response.writeHead(204, { ...HEADERS, "set-cookie": "session=; Max-Age=0; Path=/" }).end();
  if (state.options.signin && !/session=mock/.test(request.headers.cookie ?? "")) throw failure(401, "a key is needed", { code: "unauthorized" });
  if (first === "me") return json(response, 200, me());
  if (first === "models") return json(response, 200, { models: modelsShown(), presets: ["lightning-4", "causvid-9"] });
  if (first === "events") return events(response);
  if (first === "plan") return json(response, 200, plan(sent));
  if (first === "queue") {
    if (id === "cancel") waiting().forEach(cancel);
    else waiting().forEach((clip) => changed(Object.assign(clip, { paused: sent.paused })));
    number();
    return json(response, 200, {});
  }
  if (first === "files") return files(request, response, id, body);
  if (first !== "clips") throw failure(404, "there is no such address", { code: "not_found" });
  if (!id) return method === "POST" ? json(response, 201, create(sent)) : json(response, 200, list(query));
  if (id === "delete") return json(response, 200, { deleted: forget([...(sent.ids ?? []), ...oldOnes(sent.before)]) });
  const clip = clipOf(id);
  if (part === "cancel") return json(response, 200, cancel(clip));
  if (part) return clipPart(request, response, clip, part, query);
  if (method === "PATCH") return json(response, 200, patch(clip, sent));
  if (method === "DELETE") return forget([id]), json(response, 204);
  return json(response, 200, shown(clip));
}

function files(request, response, id, body) {
  if (request.method === "POST") return json(response, 201, upload(request.headers["content-type"], body));
  if (!id) return json(response, 200, { files: [...state.files.values()].map(({ asset }) => asset) });
  const file = state.files.get(id);
  if (!file) throw failure(404, `there is no file ${id}`, { code: "not_found" });
  if (request.method === "DELETE") return state.files.delete(id), json(response, 204);
  return bytes(request, response, file.type, file.data);
}

function page(response, pathname) {
  const file = `${WEB}${normalize(pathname === "/" ? "/index.html" : pathname)}`;
  if (!file.startsWith(WEB) || !existsSync(file)) return json(response, 404, { error: { message: "there is no such page" } });
  return response.writeHead(200, { ...HEADERS, "content-type": TYPES[extname(file)] ?? "text/plain" }).end(readFileSync(file));
}

/** Options of a test, or a restart: all streams end, and for that long nobody is answered. */
async function control(request, response) {
  const options = JSON.parse((await bodyOf(request)) || "{}");
  if (options.down !== undefined) {
    downUntil = Date.now() + options.down;
    streams.forEach((stream) => stream.destroy());
  } else if (options.keep) Object.assign(state.options, options);
  else reset(options);
  json(response, 200, {});
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, "http://mock");
  if (url.pathname === "/mock") return control(request, response);
  if (Date.now() < downUntil) return request.socket.destroy();
  try {
    if (url.pathname.startsWith("/api/")) await api(request, response, url.pathname.slice(5).split("/").map(decodeURIComponent), url.searchParams);
    else page(response, url.pathname);
  } catch (error) {
    const { status = 500, message, param = null, code = null } = error;
    if (!error.status) console.error(error);
    if (!response.headersSent) json(response, status, { error: { message, type: "invalid_request_error", param, code } });
  }
  return undefined;
});

export function start(port = 0) {
  reset({});
  const time = startTime();
  return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve({ url: `http://127.0.0.1:${server.address().port}/`, stop: () => (clearInterval(time), server.closeAllConnections(), server.close()) })));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await start(Number(process.argv[2] ?? 8187));
  reset({ busy: true, limited: true });
  console.log(`the mock server is at ${url}`);
}
