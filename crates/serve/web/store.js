// State that several parts of the page share, and what is remembered in this browser.
import { useEffect, useReducer, useRef } from "./html.js";

/** Makes a store: `use(select)` renders a component again only when what it selects changes. */
export function createStore(initial) {
  let state = initial;
  const listeners = new Set();
  const get = () => state;
  const set = (patch) => {
    state = { ...state, ...(typeof patch === "function" ? patch(state) : patch) };
    for (const listener of [...listeners]) listener(state);
  };
  const listen = (listener) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  };
  const use = (select = (all) => all) => {
    const [, again] = useReducer((count) => count + 1, 0);
    const last = useRef();
    last.current = { select, value: select(state) };
    useEffect(() => {
      const check = () => {
        if (last.current.select(state) !== last.current.value) again();
      };
      check(); // the state may have changed between rendering and this effect
      return listen(check);
    }, []);
    return last.current.value;
  };
  return { get, set, listen, use };
}

/** Reads JSON from this browser's storage, which may be switched off, full or written by another version. */
export function remembered(name, otherwise) {
  try {
    const value = JSON.parse(localStorage.getItem(`kinora.${name}`));
    return value && typeof value === typeof otherwise ? value : otherwise;
  } catch {
    return otherwise;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`kinora.${name}`, JSON.stringify(value));
  } catch {
    // Without storage the page works, it only forgets.
  }
}

export const prefs = createStore({
  language: /^zh\b/i.test(navigator.language) ? "zh" : "en",
  theme: "auto",
  sound: false,
  notification: false,
  ...remembered("prefs", {}),
});

export const app = createStore({
  session: "loading", // loading, signin, ready
  live: "connecting", // connecting, live, lost
  me: null,
  models: [],
  broken: [], // models that the server cannot use
  presets: [],
  clips: new Map(),
  hasMore: false,
  snapshots: 0,
  messages: [],
  said: "",
  dialog: null,
});

prefs.listen((now) => remember("prefs", now));

const chosenBefore = { language: null };
function dress({ theme, language }) {
  const root = document.documentElement;
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
  if (chosenBefore.language !== language) root.lang = language === "zh" ? "zh-CN" : "en";
  chosenBefore.language = language;
}
dress(prefs.get());
prefs.listen(dress);

/** Says a text to screen readers. The same text twice in a row is said twice: a space tells them apart. */
export function say(text) {
  app.set(({ said }) => ({ said: said === text ? `${text}\u00a0` : text }));
}

let messageNumber = 0;
/** Shows a message: errors stay until they are dismissed, notes go by themselves. `action` is a button with a `label` and what it runs. */
export function message(text, { kind = "note", title = "", action = null } = {}) {
  const id = (messageNumber += 1);
  const same = (one) => one.text === text && one.kind === kind && one.title === title;
  app.set(({ messages }) => ({ messages: [...messages.filter((one) => !same(one)), { id, text, kind, title, action }].slice(-4) }));
  if (kind === "note") setTimeout(() => dismiss(id), action ? 10000 : 5000);
  return id;
}

export function dismiss(id) {
  app.set(({ messages }) => ({ messages: messages.filter((one) => one.id !== id) }));
}

export const openDialog = (dialog) => app.set({ dialog });
export const closeDialog = () => app.set({ dialog: null });

/** A story's prompts are in its shots. */
export function withPrompt(clip) {
  const { shots } = clip.request;
  return shots?.length ? { ...clip, request: { ...clip.request, prompt: shots.map((shot) => shot.prompt).join(" / ") } } : clip;
}

/** Puts clips into the list, in place of what was known of them. */
export function mergeClips(list) {
  app.set(({ clips }) => {
    const next = new Map(clips);
    for (const clip of list) next.set(clip.id, withPrompt(clip));
    return { clips: next };
  });
}

export function forgetClips(ids) {
  app.set(({ clips }) => {
    const next = new Map(clips);
    for (const id of ids) next.delete(id);
    return { clips: next };
  });
}

const WAITING = { running: 0, cancelling: 0, queued: 1 };
export const unfinished = (clip) => clip.status in WAITING;

/** Clips that run, then those that wait, in the order in which they will be made. */
export function queueOf(clips) {
  const order = (clip) => WAITING[clip.status] * 1e9 + (clip.position ?? 1e8);
  return [...clips.values()].filter(unfinished).sort((a, b) => order(a) - order(b) || (a.id < b.id ? -1 : 1));
}

/** Finished clips, newest first: ids sort by time. */
export function finishedOf(clips) {
  return [...clips.values()].filter((clip) => !unfinished(clip)).sort((a, b) => (a.id < b.id ? 1 : -1));
}
