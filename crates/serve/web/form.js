// The form's state, and the way between it and the request that the server understands.
import * as api from "./api.js";
import { cameraFields, cameraFrom, stillCamera } from "./moves.js";
import { firstShots, isShotSlot, shotsFrom, shotsOf } from "./shots.js";
import { app, createStore, message, remember, remembered, say } from "./store.js";
import { t } from "./texts.js";

/** What each tab needs of a model (any of these), and its slots: those that must be filled, then those that may be. */
export const TABS = {
  text: { takes: null, needs: [], may: [] },
  image: { takes: ["image"], needs: ["image"], may: [] },
  frames: { takes: ["last-image"], needs: ["image", "last_image"], may: [] },
  extend: { takes: ["extend"], needs: ["extend"], may: [] },
  story: { takes: ["extend"], needs: [], may: ["extend"] },
  control: { takes: ["control"], needs: ["control"], may: ["mask"] },
  restyle: { takes: ["video"], needs: ["video"], may: [] },
};
export const MOST_REFERENCES = 4;

const settings = () => ({
  negative: "", aspect: "", seconds: "", resolution: "", mode: "", steps: "", guidance: "", preset: "", fps: "", upscale: "", upscaler: "", seed: "", seedLocked: false, count: 1,
  strength: "", camera: stillCamera(), rest: {},
});
const fresh = () => ({ model: "", tab: "text", prompt: "", shots: firstShots(), slots: {}, references: [], ...settings() });
const passing = () => ({ editing: null, errors: {}, error: null, sending: false, lastSeed: "" });

/** What this browser remembers: of slots, those that the server has, by their ids. */
function kept(now) {
  const known = (slot) => (slot?.id ? { id: slot.id, media: slot.media, name: slot.name } : null);
  const here = (name) => !isShotSlot(name) || now.shots.some(({ key }) => key === name);
  const slots = Object.fromEntries(Object.entries(now.slots).map(([name, slot]) => [name, known(slot)]).filter(([name, slot]) => slot && here(name)));
  return { ...Object.fromEntries(Object.keys(fresh()).map((key) => [key, now[key]])), slots, references: now.references.map(known).filter(Boolean) };
}

/** Puts together again what [`kept`] took apart. */
function begin() {
  const before = { ...fresh(), ...remembered("form", {}) };
  const whole = ({ id, media, name }) => ({ ...slotOf(id, media), name });
  const slots = Object.fromEntries(Object.entries(before.slots).map(([name, slot]) => [name, whole(slot)]));
  const shots = before.shots.length ? before.shots : firstShots();
  return { ...before, shots, slots, references: before.references.map(whole), camera: { ...stillCamera(), ...before.camera }, ...passing() };
}

export const form = createStore(begin());

let writing = 0;
form.listen((now) => {
  clearTimeout(writing);
  writing = setTimeout(() => {
    if (!now.editing) remember("form", kept(now));
  }, 300);
});

/** Which field of the form a `param` of the server is about. */
const FIELDS = {
  prompt: "prompt", negative_prompt: "negative", model: "model", aspect: "aspect", width: "resolution", height: "resolution", size: "resolution", resolution: "resolution",
  seconds: "seconds", frames: "seconds", fps: "fps", mode: "mode", preset: "preset", steps: "steps", guidance_scale: "guidance", sampling: "steps", seed: "seed", image: "image",
  last_image: "last_image", video: "video", strength: "strength", control: "control", mask: "mask", references: "references", camera: "camera", camera_path: "camera", shots: "shots", upscale: "upscale", upscaler: "upscaler", extend: "extend", count: "count",
};
const fieldOf = (param) => FIELDS[param] ?? FIELDS[String(param ?? "").split(/[.[]/).pop()] ?? FIELDS[String(param ?? "").split(/[.[]/)[0]] ?? null;

/** What a story has in its shots. */
const IN_SHOTS = ["prompt", "seconds", "image", "camera"];

/** Where an error of the server is said: at a field, at a shot, or, with `null`, above the button. */
export function placeOf({ param, message: said }) {
  const field = fieldOf(param);
  const { shots } = form.get();
  if (currentTab() !== "story" || !IN_SHOTS.includes(field)) return field;
  const number = /^shot (\d+)\b/.exec(said)?.[1];
  return shots[number - 1]?.key ?? "shots";
}

/** Changes fields; what was wrong with them is no longer said. */
export function change(patch) {
  form.set(({ errors }) => {
    const left = Object.fromEntries(Object.entries(errors).filter(([name]) => !(name in patch)));
    return { ...patch, errors: left };
  });
}

/** Changes a shot of the story; what was wrong with it is no longer said. */
export function changeShot(key, patch) {
  form.set(({ shots, errors }) => ({
    shots: shots.map((shot) => (shot.key === key ? { ...shot, ...patch } : shot)),
    errors: { ...errors, shots: undefined, [key]: undefined, ...("prompt" in patch ? { [`${key}-prompt`]: undefined } : {}) },
  }));
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
  const lacks = (model?.needs ?? []).filter((word) => !slots.includes(word.replace("-", "_")));
  // A continuation has its pictures from the clip before, and the shots of a story have their first ones.
  return able && (tab === "extend" || lacks.every((word) => tab === "story" && word === "image"));
}

/** The tab that is shown: the chosen one, if the model can do it, else its first one. */
export const shownTab = (model, tab) => (tab in TABS && takes(model, tab) ? tab : Object.keys(TABS).find((name) => takes(model, name)) ?? "text");

export const currentTab = () => shownTab(currentModel(app.get().models, form.get().model), form.get().tab);

export const resetSettings = () => change({ ...settings(), errors: {} });

const number = (text) => (text === "" || text === null || !Number.isFinite(Number(text)) ? undefined : Number(text));

/** Returns the request of the form, and the fields that are still missing. */
export function requestOf(state, model) {
  const tab = shownTab(model, state.tab);
  const { needs, may } = TABS[tab];
  const story = tab === "story" ? shotsOf(state, model) : null;
  const { sampling: more, ...rest } = state.rest;
  const sampling = { ...more, steps: number(state.steps), guidance_scale: number(state.guidance) };
  const slots = Object.fromEntries([...needs, ...may].map((name) => [name, state.slots[name]?.id]));
  const references = tab === "control" ? state.references.map((slot) => slot.id).filter(Boolean) : [];
  const request = {
    ...rest,
    model: model?.name,
    prompt: story ? undefined : state.prompt.trim(),
    shots: story?.shots,
    negative_prompt: state.negative.trim() || undefined,
    aspect: state.aspect || undefined,
    resolution: state.resolution || undefined,
    seconds: story ? undefined : number(state.seconds),
    fps: number(state.fps),
    mode: state.mode || undefined,
    preset: state.preset || undefined,
    sampling: Object.values(sampling).some((value) => value !== undefined) ? sampling : undefined,
    seed: state.seedLocked && state.seed ? String(state.seed) : undefined,
    upscale: state.upscale || undefined,
    upscaler: (state.upscale && state.upscaler) || undefined,
    ...(story ? {} : cameraFields(state.camera, model)),
    strength: tab === "restyle" ? number(state.strength) : undefined,
    ...slots,
    references: references.length ? references : undefined,
  };
  const missing = needs.filter((name) => !slots[name] && !(name === "control" && references.length));
  if (story) missing.push(...story.missing);
  else if (!request.prompt) missing.push("prompt");
  return { request: JSON.parse(JSON.stringify(request)), missing };
}

const MEDIA = { image: "image", last_image: "image", mask: "video", control: "video", video: "video", extend: "video" };
export const mediaOf = (slot) => (slot.startsWith("references") || isShotSlot(slot) ? "image" : MEDIA[slot]);

/** The slot of an id that the server knows. */
export function slotOf(id, media) {
  return { id, media, url: media === "image" ? api.pictureAddress(id) : api.videoAddress(id), name: "" };
}

const SHOWN = ["model", "prompt", "negative_prompt", "aspect", "resolution", "seconds", "fps", "mode", "preset", "sampling", "seed", "upscale", "upscaler", "camera", "camera_path", "strength", "image", "last_image",
  "video", "control", "mask", "extend", "references", "count", "shots"];

function tabOf(request) {
  if (request.shots?.length) return "story";
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
  const story = request.shots?.length ? shotsFrom(request, slotOf) : null;
  const slots = Object.fromEntries(Object.keys(MEDIA).filter((name) => request[name]).map((name) => [name, slotOf(request[name], MEDIA[name])]));
  const models = app.get().models;
  change({
    ...settings(),
    model: models.some((model) => model.name === request.model) ? request.model : models[0]?.name ?? "",
    tab: tabOf(request),
    prompt: story ? "" : text(request.prompt),
    ...(story ? { shots: story.shots } : {}),
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
    upscaler: request.upscaler === "lanczos" ? "" : text(request.upscaler),
    strength: text(request.strength),
    camera: cameraFrom(request),
    seed: text(seed),
    seedLocked: Boolean(seed),
    slots: { ...slots, ...story?.slots },
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
  const field = error.param ? placeOf(error) : null;
  if (field) form.set(({ errors }) => ({ errors: { ...errors, [field]: error.message } }));
  else form.set({ error: { message: error.message, code: error.code, status: error.status } });
  if (field) say(error.message); // the other place is an alert by itself
  return field;
}
