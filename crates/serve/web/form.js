// The form's state, and the way between it and the request that the server understands.
import * as api from "./api.js";
import { app, createStore, message, remember, remembered, say } from "./store.js";
import { t } from "./texts.js";

export const AXES = ["horizontal", "vertical", "pan", "tilt", "roll", "zoom"];
export const CAMERA_PRESETS = ["down-back", "forward-up", "left-turn-forward", "right-turn-forward"];
/** What each tab needs of a model (any of these), and its slots: those that must be filled, then those that may be. */
export const TABS = {
  text: { takes: null, needs: [], may: [] },
  image: { takes: ["image"], needs: ["image"], may: [] },
  frames: { takes: ["last-image"], needs: ["image", "last_image"], may: [] },
  extend: { takes: ["extend"], needs: ["extend"], may: [] },
  control: { takes: ["control"], needs: ["control"], may: ["mask"] },
  restyle: { takes: ["video"], needs: ["video"], may: [] },
};
export const MOST_REFERENCES = 4;

const still = () => ({ preset: "", axes: Object.fromEntries(AXES.map((axis) => [axis, 0])) });
const settings = () => ({
  negative: "", aspect: "", seconds: "", resolution: "", mode: "", steps: "", guidance: "", preset: "", fps: "", upscale: "", seed: "", seedLocked: false, count: 1,
  strength: "", camera: still(), rest: {},
});
const fresh = () => ({ model: "", tab: "text", prompt: "", ...settings() });
const passing = () => ({ slots: {}, references: [], editing: null, errors: {}, error: null, sending: false, lastSeed: "" });

export const form = createStore({ ...fresh(), ...remembered("form", {}), ...passing() });

let writing = 0;
form.listen((now) => {
  clearTimeout(writing);
  writing = setTimeout(() => {
    const kept = Object.fromEntries(Object.keys(fresh()).map((key) => [key, now[key]]));
    if (!now.editing) remember("form", kept);
  }, 300);
});

/** Which field of the form a `param` of the server is about. */
const FIELDS = {
  prompt: "prompt", negative_prompt: "negative", model: "model", aspect: "aspect", width: "resolution", height: "resolution", size: "resolution", resolution: "resolution",
  seconds: "seconds", frames: "seconds", fps: "fps", mode: "mode", preset: "preset", steps: "steps", guidance_scale: "guidance", sampling: "steps", seed: "seed", image: "image",
  last_image: "last_image", video: "video", strength: "strength", control: "control", mask: "mask", references: "references", camera: "camera", upscale: "upscale", extend: "extend", count: "count",
};
export const fieldOf = (param) => FIELDS[param] ?? FIELDS[String(param ?? "").split(/[.[]/).pop()] ?? FIELDS[String(param ?? "").split(/[.[]/)[0]] ?? null;

/** Changes fields; what was wrong with them is no longer said. */
export function change(patch) {
  form.set(({ errors }) => {
    const left = Object.fromEntries(Object.entries(errors).filter(([name]) => !(name in patch)));
    return { ...patch, errors: left };
  });
}

/** Puts something into a slot, or empties it with `null`. */
export function setSlot(name, slot) {
  form.set(({ slots, errors }) => ({ slots: { ...slots, [name]: slot }, errors: { ...errors, [name]: undefined } }));
}

export const currentModel = (models, name) => models.find((model) => model.name === name) ?? models[0] ?? null;

/** Whether a model can do what a tab is for: it takes what is given there, and is given what each of its clips needs. */
export function takes(model, tab) {
  const { takes: words, needs: slots } = TABS[tab];
  const able = !words || words.some((word) => model?.takes?.includes(word));
  return able && (tab === "extend" || (model?.needs ?? []).every((word) => slots.includes(word.replace("-", "_"))));
}

/** The tab that is shown: the chosen one, if the model can do it, else its first one. */
export const shownTab = (model, tab) => (tab in TABS && takes(model, tab) ? tab : Object.keys(TABS).find((name) => takes(model, name)) ?? "text");

export const resetSettings = () => change({ ...settings(), errors: {} });

export function cameraText({ preset, axes }) {
  if (preset) return preset;
  return AXES.filter((axis) => axes[axis]).map((axis) => `${axis}=${axes[axis]}`).join(",");
}

function cameraOf(text) {
  const camera = still();
  if (!text) return camera;
  if (!text.includes("=")) return { ...camera, preset: text };
  for (const part of text.split(",")) {
    const [axis, value] = part.split("=");
    if (AXES.includes(axis?.trim()) && Number.isFinite(Number(value))) camera.axes[axis.trim()] = Number(value);
  }
  return camera;
}

const number = (text) => (text === "" || text === null || !Number.isFinite(Number(text)) ? undefined : Number(text));

/** Returns the request of the form, and the fields that are still missing. */
export function requestOf(state, model) {
  const tab = shownTab(model, state.tab);
  const { needs, may } = TABS[tab];
  const { sampling: kept, ...rest } = state.rest;
  const sampling = { ...kept, steps: number(state.steps), guidance_scale: number(state.guidance) };
  const slots = Object.fromEntries([...needs, ...may].map((name) => [name, state.slots[name]?.id]));
  const references = tab === "control" ? state.references.map((slot) => slot.id).filter(Boolean) : [];
  const request = {
    ...rest,
    model: model?.name,
    prompt: state.prompt.trim(),
    negative_prompt: state.negative.trim() || undefined,
    aspect: state.aspect || undefined,
    resolution: state.resolution || undefined,
    seconds: number(state.seconds),
    fps: number(state.fps),
    mode: state.mode || undefined,
    preset: state.preset || undefined,
    sampling: Object.values(sampling).some((value) => value !== undefined) ? sampling : undefined,
    seed: state.seedLocked && state.seed ? String(state.seed) : undefined,
    upscale: state.upscale || undefined,
    camera: cameraText(state.camera) || undefined,
    strength: tab === "restyle" ? number(state.strength) : undefined,
    ...slots,
    references: references.length ? references : undefined,
  };
  const missing = needs.filter((name) => !slots[name] && !(name === "control" && references.length));
  if (!request.prompt) missing.push("prompt");
  return { request: JSON.parse(JSON.stringify(request)), missing };
}

const MEDIA = { image: "image", last_image: "image", mask: "video", control: "video", video: "video", extend: "video" };
export const mediaOf = (slot) => MEDIA[slot];

/** The slot of an id that the server knows. */
export function slotOf(id, media) {
  return { id, media, url: media === "image" ? api.pictureAddress(id) : api.videoAddress(id), name: "" };
}

const SHOWN = ["model", "prompt", "negative_prompt", "aspect", "resolution", "seconds", "fps", "mode", "preset", "sampling", "seed", "upscale", "camera", "strength", "image", "last_image",
  "video", "control", "mask", "extend", "references", "count", "shots"];

function tabOf(request) {
  if (request.extend) return "extend";
  if (request.control || request.references?.length) return "control";
  if (request.video) return "restyle";
  if (request.last_image) return "frames";
  return request.image ? "image" : "text";
}

const text = (value) => (value === undefined || value === null ? "" : String(value));

/** Puts a request into the form, as it was asked; settings that the form does not show are kept beside it. */
export function fill(request, { seed = request.seed } = {}) {
  const { steps, guidance_scale: guidance, ...sampling } = request.sampling ?? {};
  const rest = Object.fromEntries(Object.entries(request).filter(([name]) => !SHOWN.includes(name)));
  if (Object.keys(sampling).length) rest.sampling = sampling;
  const slots = Object.fromEntries(Object.keys(MEDIA).filter((name) => request[name]).map((name) => [name, slotOf(request[name], MEDIA[name])]));
  const models = app.get().models;
  change({
    ...settings(),
    model: models.some((model) => model.name === request.model) ? request.model : models[0]?.name ?? "",
    tab: tabOf(request),
    prompt: text(request.prompt),
    negative: text(request.negative_prompt),
    aspect: text(request.aspect),
    resolution: text(request.resolution),
    seconds: text(request.seconds),
    fps: text(request.fps),
    mode: text(request.mode),
    preset: text(request.preset),
    steps: text(steps),
    guidance: text(guidance),
    upscale: text(request.upscale),
    strength: text(request.strength),
    camera: cameraOf(request.camera),
    seed: text(seed),
    seedLocked: Boolean(seed),
    slots,
    references: (request.references ?? []).map((id) => slotOf(id, "image")),
    rest,
    editing: null,
    errors: {},
    error: null,
  });
}

/** Chooses a model that can do a tab: the present one if it can. Returns whether there is one. */
export function reach(tab) {
  const { models } = app.get();
  const now = currentModel(models, form.get().model);
  const able = takes(now, tab) ? now : models.find((model) => takes(model, tab));
  if (!able) return false;
  if (able !== now) message(t("modelSwitched", { name: able.title }));
  change({ model: able.name, tab });
  return true;
}

/** Shows an error of the server next to its field, or above the button when it is about none. */
export function showError(error) {
  const field = error.param ? fieldOf(error.param) : null;
  if (field) form.set(({ errors }) => ({ errors: { ...errors, [field]: error.message } }));
  else form.set({ error: { message: error.message, code: error.code, status: error.status } });
  if (field) say(error.message); // the other place is an alert by itself
  return field;
}
