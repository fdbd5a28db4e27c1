// The shots of a story: what the form keeps of each, and the way between them and requests.
import { cameraOf, cameraText, stillCamera } from "./moves.js";

/** A name that is unique in this browser, also among shots that it remembers. */
const newKey = () => `shot-${Math.random().toString(36).slice(2, 10)}`;

export const newShot = (patch = {}) => ({ key: newKey(), prompt: "", seconds: "", join: "continue", negative: "", seed: "", camera: stillCamera(), ...patch });

/** A story begins with two shots, so that it is seen what one is. */
export const firstShots = () => [newShot(), newShot()];

export const isShotSlot = (name) => name.startsWith("shot-");

/** Whether a shot begins anew: the first one, unless the story goes on from a clip, and each after a cut. */
export const begins = (shot, at, state) => (at === 0 && !state.slots.extend) || (shot.join === "cut" && (at > 0 || Boolean(state.slots.extend)));

/** Whether a shot may begin with a picture, and whether it must. */
export const mayHavePicture = (shot, at, state, model) => begins(shot, at, state) && Boolean(model?.takes?.includes("image"));
export const needsPicture = (shot, at, state, model) => begins(shot, at, state) && Boolean(model?.needs?.includes("image"));

const number = (text) => (text === "" || !Number.isFinite(Number(text)) ? undefined : Number(text));

/** The shots as the server understands them, and the names of the fields that are missing. */
export function shotsOf(state, model) {
  const missing = [];
  const shots = state.shots.map((shot, at) => {
    const image = mayHavePicture(shot, at, state, model) ? state.slots[shot.key]?.id : undefined;
    if (!shot.prompt.trim()) missing.push(`${shot.key}-prompt`);
    if (needsPicture(shot, at, state, model) && !image) missing.push(shot.key);
    return {
      prompt: shot.prompt.trim(),
      seconds: number(shot.seconds),
      join: shot.join === "cut" && (at > 0 || state.slots.extend) ? "cut" : undefined,
      negative_prompt: shot.negative.trim() || undefined,
      image,
      camera: cameraText(shot.camera) || undefined,
      seed: shot.seed || undefined,
    };
  });
  return { shots, missing };
}

const text = (value) => (value === undefined || value === null ? "" : String(value));

/** The shots of a request, with the slots of their pictures by key. */
export function shotsFrom(request, slotOf) {
  const slots = {};
  const shots = request.shots.map((shot) => {
    const own = newShot({ prompt: text(shot.prompt), seconds: text(shot.seconds), join: shot.join === "cut" ? "cut" : "continue", negative: text(shot.negative_prompt), seed: text(shot.seed), camera: cameraOf(shot.camera) });
    if (shot.image) slots[own.key] = slotOf(shot.image, "image");
    return own;
  });
  return { shots, slots };
}

/** The length of a story in seconds, as far as it is chosen; a shot without a length has the model's own. */
export const secondsOf = (shot, model) => number(shot.seconds) ?? model.seconds;
