// What buttons do: calls of the API, and what becomes of their answers.
import * as api from "./api.js";
import { change, currentModel, fill, form, reach, requestOf, setSlot, showError, slotOf } from "./form.js";
import { app, closeDialog, forgetClips, mergeClips, message, openDialog, remember, remembered, say } from "./store.js";
import { t } from "./texts.js";

/** Runs a call; an error is shown as a message. Returns its answer, or `undefined`. */
export async function attempt(promise) {
  try {
    return (await promise) ?? null;
  } catch (error) {
    if (error.name !== "AbortError" && error.status !== 401) message(error.message, { kind: "error" });
    return undefined;
  }
}

const path = (id) => `clips/${encodeURIComponent(id)}`;

export function rememberPrompt(prompt) {
  remember("history", [prompt, ...remembered("history", []).filter((one) => one !== prompt)].slice(0, 40));
}

/** On a narrow page the queue lies below the form: what was just added comes into sight. */
function showQueue() {
  if (!matchMedia("(max-width: 960px)").matches) return;
  requestAnimationFrame(() => document.getElementById("queue-title")?.scrollIntoView({ block: "start", behavior: "smooth" }));
}

/** Sends the form. Returns the name of the field to look at if something is missing or wrong. */
export async function submit() {
  const state = form.get();
  if (state.sending) return null;
  const { request, missing } = requestOf(state, currentModel(app.get().models, state.model));
  if (missing.length) {
    const text = (name) => (name === "prompt" ? "promptNeeded" : name.endsWith("-prompt") ? "shotNeeded" : "chooseFirst");
    const errors = Object.fromEntries(missing.map((name) => [name, t(text(name))]));
    form.set({ errors });
    say(Object.values(errors)[0]);
    return missing[0];
  }
  form.set({ sending: true, error: null, errors: {} });
  try {
    if (state.editing) {
      mergeClips([await api.patch(path(state.editing), { request })]);
      form.set({ editing: null });
      say(t("saved"));
      message(t("saved"));
    } else {
      const { clips } = await api.post("clips", state.count > 1 ? { ...request, count: state.count } : request);
      // The stream may have been faster and know more of them by now.
      mergeClips(clips.filter((clip) => !app.get().clips.has(clip.id)));
      if (clips[0]?.plan?.seed) form.set({ lastSeed: String(clips[0].plan.seed) });
      say(t("queued"));
      showQueue();
    }
    for (const { prompt } of request.shots?.toReversed() ?? [request]) rememberPrompt(prompt);
    return null;
  } catch (error) {
    return error.status === 401 ? null : showError(error);
  } finally {
    form.set({ sending: false });
  }
}

export async function updateClip(id, changes) {
  const clip = await attempt(api.patch(path(id), changes));
  if (clip) mergeClips([clip]);
}

export async function cancelClip(id) {
  const clip = await attempt(api.post(`${path(id)}/cancel`));
  if (clip) mergeClips([clip]);
}

/** Moves a waiting clip to a place among `waiting`, which is in order: before the one that is there, or behind all. */
export async function moveTo(clip, place, waiting) {
  const at = waiting.findIndex((one) => one.id === clip.id);
  if (place === at || place === at + 1) return;
  if (place < waiting.length) return updateClip(clip.id, { before: waiting[place].id });
  for (const one of waiting.slice(at + 1)) await updateClip(one.id, { before: clip.id });
}

/** Moves a waiting clip before another one of `waiting`, which is in order. */
export function moveUp(clip, waiting) {
  const at = waiting.findIndex((one) => one.id === clip.id);
  if (at > 0) updateClip(clip.id, { before: waiting[at - 1].id });
}

export const pauseAll = (paused) => attempt(api.post("queue", { paused }));

export function cancelAll(n) {
  openDialog({
    kind: "confirm", title: t("cancelAllAsk", { n }), text: t("cancelAllText"), action: t("cancelAll"), keep: t("keep"),
    onConfirm: () => attempt(api.post("queue/cancel")),
  });
}

/** Deletes clips after a question; `onDone` runs when they are gone. */
export function deleteClips(ids, onDone) {
  const back = app.get().dialog;
  openDialog({
    kind: "confirm", title: t("deleteAsk", { n: ids.length }), text: t("deleteText"), action: t("delete"), keep: t("keep"), danger: true, back,
    onConfirm: async () => {
      const answer = await attempt(api.post("clips/delete", { ids }));
      if (!answer) return;
      forgetClips(ids);
      say(t("deleted", { n: answer.deleted }));
      message(t("deleted", { n: answer.deleted }));
      onDone?.();
    },
  });
}

/** Deletes finished clips of before, but those with a star. */
export async function deleteBefore(before) {
  const answer = await attempt(api.post("clips/delete", { before }));
  if (!answer) return;
  say(t("deleted", { n: answer.deleted }));
  message(t("deleted", { n: answer.deleted }));
}

function toForm(said) {
  closeDialog();
  say(said);
  requestAnimationFrame(() => {
    const box = document.getElementById("prompt");
    box?.focus({ preventScroll: true });
    document.getElementById("compose")?.scrollIntoView({ block: "start", behavior: "smooth" });
  });
}

export function useSettings(clip) {
  fill(clip.request, { seed: clip.seed ?? clip.request.seed });
  toForm(t("settingsUsed"));
}

export function editClip(clip) {
  fill(clip.request);
  form.set({ editing: clip.id });
  toForm(t("editing"));
}

/** "Go on from here" (`extend`) and "last frame as first" (`image`). */
export function continueFrom(clip, tab) {
  if (!reach(tab)) return message(t(tab === "image" ? "notTakenImage" : "notTaken"), { kind: "error" });
  const slot = tab === "image" ? { ...slotOf(clip.id, "image"), name: t("fromClip") } : slotOf(clip.id, "video");
  const { prompt } = form.get();
  setSlot(tab, slot);
  const said = clip.request.shots?.at(-1)?.prompt ?? clip.request.prompt;
  change({ prompt: prompt.trim() ? prompt : said, editing: null, error: null });
  toForm(t(tab === "image" ? "slotImage" : "slotExtend"));
}

export async function signOut() {
  await attempt(api.remove("session"));
  form.set({ slots: {}, references: [], editing: null }); // they are of whoever leaves
  app.set({ session: "signin", clips: new Map(), me: null });
}
