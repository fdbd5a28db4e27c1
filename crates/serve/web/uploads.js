// Pictures and clips on their way to the server: by a button, by a drop anywhere, or by pasting.
import * as api from "./api.js";
import { currentModel, form, mediaOf, MOST_REFERENCES, reach, setSlot, shownTab, TABS } from "./form.js";
import { mayHavePicture } from "./shots.js";
import { app, message, say } from "./store.js";
import { t } from "./texts.js";

export const CLIP_TYPE = "application/x-kinora-clip";

const mediaOfFile = (file) => /^(image|video)\//.exec(file.type)?.[1] ?? null;

/** The way to read and write a slot, also that of a reference (`references.N`). */
function place(name) {
  const [list, at] = name.split(".");
  if (list !== "references") return { get: () => form.get().slots[name], set: (slot) => setSlot(name, slot) };
  const set = (slot) =>
    form.set(({ references, errors }) => {
      const next = [...references];
      if (slot) next[at] = slot;
      else next.splice(at, 1);
      return { references: next, errors: { ...errors, references: undefined, control: undefined } };
    });
  return { get: () => form.get().references[at], set };
}

/** Sends a file and fills a slot with it. What was in the slot comes back if that fails or is stopped. */
export async function sendTo(name, file) {
  const media = mediaOfFile(file);
  if (!media) return message(t("notMedia", { name: file.name }), { kind: "error" });
  const { get, set } = place(name);
  const before = get();
  before?.stop?.();
  const url = URL.createObjectURL(file);
  const { promise, stop } = api.upload(file, (share) => get()?.url === url && set({ ...get(), share }));
  set({ url, media, name: file.name, share: 0, stop });
  try {
    const asset = await promise;
    if (get()?.url === url) set({ id: asset.id, media: asset.media, url, name: asset.name ?? file.name, width: asset.width, height: asset.height });
    say(file.name);
  } catch (error) {
    if (get()?.url === url) set(before?.id ? before : null);
    URL.revokeObjectURL(url);
    if (error.name !== "AbortError" && error.status !== 401) {
      form.set(({ errors }) => ({ errors: { ...errors, [name.split(".")[0]]: error.message } }));
      say(error.message);
    }
  }
}

/** Which slot a file goes to that was dropped beside all slots: a picture becomes the first frame. */
function target(media) {
  const state = form.get();
  const model = currentModel(app.get().models, state.model);
  const tab = shownTab(model, state.tab);
  if (media === "video") {
    const here = [...TABS[tab].needs].find((name) => mediaOf(name) === "video" && name !== "extend");
    if (here) return here;
    const able = ["restyle", "control"].find((one) => reach(one));
    return able ? TABS[able].needs[0] : null;
  }
  if (tab === "story") {
    const able = state.shots.filter((shot, at) => mayHavePicture(shot, at, state, model));
    return (able.find(({ key }) => !state.slots[key]) ?? able[0])?.key ?? null;
  }
  if (tab === "control" && model.takes.includes("references") && state.references.length < MOST_REFERENCES) return `references.${state.references.length}`;
  if (TABS[tab].needs.includes("image")) return "image";
  return reach("image") ? "image" : null;
}

export function takeFile(file) {
  const media = mediaOfFile(file);
  if (!media) return message(t("notMedia", { name: file.name }), { kind: "error" });
  const name = target(media);
  if (!name) return message(t(media === "image" ? "notTakenImage" : "notTaken"), { kind: "error" });
  return sendTo(name, file);
}

export function clearSlot(name) {
  const { get, set } = place(name);
  const slot = get();
  slot?.stop?.();
  if (slot?.url?.startsWith("blob:")) URL.revokeObjectURL(slot.url);
  set(null);
}

export const putInto = (name, slot) => place(name).set(slot);

/** Listens for drops and pastes on the whole page; `onOver` is told whether something hovers over it. */
export function listenForFiles(onOver) {
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0;
  const enter = (event) => carries(event) && (depth += 1) === 1 && onOver(true);
  const leave = (event) => carries(event) && (depth -= 1) <= 0 && stop();
  const stop = () => {
    depth = 0;
    onOver(false);
  };
  const over = (event) => carries(event) && event.preventDefault();
  const drop = (event) => {
    stop();
    if (!carries(event) || event.defaultPrevented) return;
    event.preventDefault();
    const file = event.dataTransfer.files[0];
    if (file) takeFile(file);
  };
  const paste = (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find(mediaOfFile);
    if (file) {
      event.preventDefault();
      takeFile(file);
    }
  };
  const all = { dragenter: enter, dragleave: leave, dragover: over, drop, paste };
  for (const [name, handle] of Object.entries(all)) window.addEventListener(name, handle);
  return () => Object.entries(all).forEach(([name, handle]) => window.removeEventListener(name, handle));
}
