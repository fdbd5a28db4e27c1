// The mock server's clips and how they come along. Nothing is computed: time passes, and made-up clips are given out.
import { randomInt } from "node:crypto";
import { prepare } from "./mock-media.mjs";

const CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz";
const LOOKS = prepare();

/** An id that sorts by time: ten letters of it, then sixteen by chance. */
function ulid(now) {
  let [left, time] = [now, ""];
  for (let n = 0; n < 10; n += 1) [time, left] = [CROCKFORD[left % 32] + time, Math.floor(left / 32)];
  return time + Array.from({ length: 16 }, () => CROCKFORD[randomInt(32)]).join("");
}

const MODELS = [
  {
    name: "embedded", title: "Moving shapes, a demonstration", takes: ["image", "last-image", "extend"], width: 112, height: 64, frames: 17, fps: 8, seconds: 2.125, steps: 16, guidance_scale: 3,
    negative_prompt: "", resolutions: [], longest_seconds: 10,
  },
  {
    name: "studio-5b", title: "Studio, 5 B: text and image to video", takes: ["image", "last-image", "extend", "video", "camera"], width: 832, height: 480, frames: 81, fps: 16, seconds: 5.0625, steps: 30,
    guidance_scale: 5, negative_prompt: "blurry, low quality, static", resolutions: ["480p", "720p"], longest_seconds: 180,
  },
  {
    name: "studio-control", title: "Studio Control, 1.3 B: control and references", takes: ["control", "references", "video"], width: 832, height: 480, frames: 81, fps: 16, seconds: 5.0625, steps: 30,
    guidance_scale: 5, negative_prompt: "", resolutions: ["480p"], longest_seconds: 180,
  },
  {
    name: "studio-i2v", title: "Studio, 14 B: image to video", takes: ["image", "extend"], needs: ["image"], width: 832, height: 480, frames: 81, fps: 16, seconds: 5.0625, steps: 30,
    guidance_scale: 5, negative_prompt: "", resolutions: ["480p"], longest_seconds: 180,
  },
];

const PROMPTS = [
  "A paper boat drifts down a rain-wet street at dusk, warm shop lights reflected in the water", "A lighthouse in fog, the beam sweeps over a calm sea, slow crane up",
  "Fern leaves unroll in time lapse, morning light, macro", "Ink blooms in clear water, plum and rose, black background",
  "一只白鹤掠过清晨的湖面，薄雾缓缓散开", "Wheat field in late sun, wind runs through it in waves, wide lens",
  "Snow falls past a street lamp at night", "Underwater light on sand, gentle caustics", "A drop of honey falls from a spoon, studio light",
];

export const state = { clips: new Map(), files: new Map(), options: {}, listeners: new Set(), looks: LOOKS, models: MODELS, key: "kin_test" };

export const send = (event, data) => state.listeners.forEach((listener) => listener(event, data));

export const failure = (status, message, { param = null, code = null } = {}) => Object.assign(new Error(message), { status, param, code });

export function me() {
  const { limited = false, full = false, signin = false } = state.options;
  const left = full ? 0 : 42;
  return {
    owner: signin ? "mira" : "local", name: signin ? "Mira" : "", tier: limited ? "free" : "unlimited", signed_in: signin, keys: signin,
    credits: limited ? { left, daily: 66, resets_at: new Date().setHours(24, 0, 0, 0) } : null,
    storage: { used: 1_320_000_000, quota: limited ? 5_000_000_000 : null },
  };
}

const modelOf = (request) => state.models.find((model) => model.name === request.model) ?? state.models[0];

/** Refuses what the server refuses of stories and paths. */
function check({ shots, prompt, seconds, image, camera, camera_path: path, extend }, model) {
  const wrong = (param, message) => failure(400, message, { param, code: "invalid_value" });
  if (path && (camera || shots)) throw wrong("camera_path", "a camera's path goes with neither a move nor shots");
  if (path && !model.takes.includes("camera")) throw wrong("camera", "the model has no camera control, and a path cannot be said in a prompt");
  const far = path?.findIndex(({ zoom = 1 }) => zoom < 0.1 || zoom > 20) ?? -1;
  if (far >= 0) throw wrong("camera_path", `pose ${far + 1} zooms by ${path[far].zoom}, which is outside 0.1 to 20`);
  for (const [field, value] of Object.entries({ prompt, seconds, image, camera })) if (shots && value !== undefined) throw wrong(field, `the shots of a story have their own \`${field}\``);
  if (shots?.length > 32) throw wrong("shots", `a story of ${shots.length} shots has more than the 32 that the tier allows`);
  shots?.forEach((shot, at) => {
    if (shot.seconds !== undefined && !(shot.seconds > 0)) throw wrong("seconds", `a shot of ${shot.seconds} s is not possible`);
    if (shot.image && shot.join !== "cut" && (at > 0 || extend)) throw wrong("image", `shot ${at + 1} continues the one before and begins with an image`);
  });
}

/** What a request becomes; wrong values are refused as the server does, with the field's name. */
export function plan(request) {
  const model = modelOf(request);
  const { shots } = request;
  if (!(shots ?? [request]).every(({ prompt }) => prompt)) throw failure(400, "the prompt is empty", { param: "prompt", code: "invalid_value" });
  check(request, model);
  const seconds = shots ? shots.reduce((sum, shot) => sum + (shot.seconds ?? model.seconds), 0) : request.seconds ?? model.seconds;
  if (seconds > model.longest_seconds) throw failure(400, `a clip of ${seconds} s is longer than the ${model.longest_seconds} s that this model makes`, { param: "seconds", code: "invalid_value" });
  if (request.sampling?.steps > 200) throw failure(400, "steps is 999, and at most 200 are allowed", { param: "sampling.steps", code: "invalid_value" });
  const [w, h] = (request.aspect ?? "16:9").split(":").map(Number);
  const area = model.width * model.height * (request.resolution === "720p" ? 2.25 : 1);
  const grid = (value) => 16 * Math.round(value / 16);
  const fps = request.fps ?? model.fps;
  const frames = 4 * Math.round((seconds * fps - 1) / 4) + 1;
  const steps = request.sampling?.steps ?? Math.round(model.steps * ({ fast: 0.5, quality: 1.5 }[request.mode] ?? 1));
  const width = grid(Math.sqrt((area * w) / h));
  const height = grid(Math.sqrt((area * h) / w));
  const notices = frames > 81 ? ["the clip is made in windows of 81 frames that share 5 frames"] : [];
  if (request.camera && !model.takes.includes("camera")) notices.push("the model has no camera control: the move is added to the prompt in words");
  const made = { width, height, frames, fps, seconds: frames / fps, steps, windows: shots ? shots.length : 1, guided: true, seed: String(request.seed ?? randomInt(2 ** 47)), memory: 2.1e9 + width * height * frames * 90, notices };
  const waiting = [...state.clips.values()].filter((clip) => clip.status === "queued" || clip.status === "running").length;
  return { plan: made, cost: Math.max(1, Math.round(seconds * (width > 900 ? 4 : 2))), seconds: (width * height * frames * steps) / 4e6, wait: waiting * 95 };
}

/** The words of a request, or those of all its shots. */
export const promptOf = ({ prompt, shots }) => prompt ?? shots.map((shot) => shot.prompt).join(" / ");

const looksFor = (made) => [...LOOKS].sort((a, b) => Math.abs(a.width / a.height - made.width / made.height) - Math.abs(b.width / b.height - made.width / made.height));

export function add(request, { now = Date.now(), ...rest } = {}) {
  const planned = plan(request);
  const id = `video_${ulid(now)}`;
  const look = rest.look ?? looksFor(planned.plan)[[...promptOf(request)].length % 3].name;
  const clip = { id, status: "queued", created_at: now, request: { ...request, model: modelOf(request).name }, plan: planned.plan, progress: 0, paused: false, starred: false, seed: planned.plan.seed, cost: planned.cost, ...rest, look };
  state.clips.set(id, clip);
  return clip;
}

export function finish(clip, now = Date.now()) {
  const { width, height } = LOOKS.find((look) => look.name === clip.look);
  Object.assign(clip, {
    status: "succeeded", progress: 100, started_at: now - 63000, finished_at: now, stage: undefined, seconds_left: undefined, position: undefined,
    result: { width, height, frames: 48, fps: 16, bytes: 412_345, seconds: [1.2, 58.4, 3.4, 63.0], notices: clip.plan.notices },
  });
}

/** The form in which a clip goes out. */
export function shown(clip) {
  const { look, ...rest } = clip;
  return JSON.parse(JSON.stringify(rest));
}

export const waiting = () => [...state.clips.values()].filter((clip) => clip.status === "queued").sort((a, b) => (a.rank ?? a.created_at) - (b.rank ?? b.created_at));

/** Numbers those that wait, and tells of those whose number is another one now. */
export function number() {
  let position = 0;
  for (const clip of waiting()) {
    const next = clip.paused ? undefined : (position += 1);
    if (clip.position !== next) {
      clip.position = next;
      send("clip", shown(clip));
    }
  }
}

function advance() {
  const running = [...state.clips.values()].find((clip) => clip.status === "running" || clip.status === "cancelling");
  if (state.options.still) return;
  if (!running) {
    const next = waiting().find((clip) => !clip.paused);
    if (!next) return;
    Object.assign(next, { status: "running", started_at: Date.now(), position: undefined, stage: { stage: "load", done: 0, total: 1 } });
    send("clip", shown(next));
    return number();
  }
  if (running.status === "cancelling") {
    Object.assign(running, { status: "cancelled", finished_at: Date.now(), stage: undefined, seconds_left: undefined });
    return send("clip", shown(running));
  }
  running.progress = Math.min(100, running.progress + (state.options.slow ? 0.5 : 4));
  const share = running.progress / 100;
  const { steps, frames } = running.plan;
  if (share < 0.06) running.stage = { stage: "text", done: 0, total: 1 };
  else if (share < 0.9) running.stage = { stage: "steps", done: Math.ceil((share / 0.9) * steps), total: steps };
  else running.stage = { stage: "frames", done: Math.ceil(((share - 0.9) / 0.1) * frames), total: frames };
  running.seconds_left = share < 0.12 ? null : Math.max(1, Math.round(240 * (1 - share)));
  if (share > 0.15) running.preview = Math.ceil(share * 6);
  if (running.progress < 100) return send("progress", { id: running.id, progress: running.progress, stage: running.stage, seconds_left: running.seconds_left, preview: running.preview });
  if (promptOf(running.request).includes("FAIL")) Object.assign(running, { status: "failed", finished_at: Date.now(), stage: undefined, error: { code: "out_of_memory", message: "the clip needs 96 GB of memory, and the device has 24 GB; ask for a smaller size or fewer frames" } });
  else finish(running);
  return send("clip", shown(running));
}

/** Begins anew with the options of a test. */
export function reset(options = {}) {
  state.options = options;
  state.clips.clear();
  state.files.clear();
  if (options.empty) return;
  const begin = Date.now() - 86_400_000 * 3;
  const count = options.many ? 130 : 14;
  for (let n = 0; n < count; n += 1) {
    const at = begin + n * 3_600_000;
    const clip = add({ prompt: PROMPTS[n % PROMPTS.length], model: "studio-5b", seconds: 3, mode: n % 3 === 0 ? "fast" : undefined, camera: n % 4 === 0 ? "pan=4,zoom=2" : undefined }, { now: at, look: LOOKS[n % LOOKS.length].name, starred: n % 5 === 1 });
    if (n === 4) Object.assign(clip, { status: "failed", finished_at: at, error: { code: "out_of_memory", message: "the clip needs 96 GB of memory, and the device has 24 GB; ask for a smaller size" } });
    else finish(clip, at);
  }
  if (!options.busy) return;
  const now = Date.now();
  const running = add({ prompt: PROMPTS[1], model: "studio-5b" }, { now: now - 4000, look: "sea" });
  Object.assign(running, { status: "running", started_at: now - 60000, progress: 38, preview: 3, stage: { stage: "steps", done: 13, total: 30 }, seconds_left: 148 });
  [PROMPTS[5], PROMPTS[2], PROMPTS[4]].forEach((prompt, n) => add({ prompt, model: "studio-5b", aspect: n === 1 ? "9:16" : undefined }, { now: now - 3000 + n }));
  number();
}

export function startTime() {
  return setInterval(advance, 250);
}
