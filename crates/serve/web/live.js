// The one stream of events of this tab. It connects again by itself; the snapshot that begins it replaces everything.
import * as api from "./api.js";
import { announce } from "./notify.js";
import { app, forgetClips, mergeClips, say, unfinished, withPrompt } from "./store.js";
import { t } from "./texts.js";

const SLOWEST = 8000; // milliseconds between two tries
let source = null;
let timer = 0;
let calm = 0;
let tries = 0;

export function connect() {
  disconnect();
  tries = 0;
  open();
}

export function disconnect() {
  clearTimeout(timer);
  clearTimeout(calm);
  calm = 0;
  source?.close();
  source = null;
}

function open() {
  const own = (source = new EventSource(api.address("events")));
  const on = (name, handle) => own.addEventListener(name, (event) => source === own && handle(JSON.parse(event.data)));
  on("snapshot", snapshot);
  on("clip", clipChanged);
  on("gone", ({ id }) => forgetClips([id]));
  on("me", (me) => app.set({ me }));
  on("progress", progressed);
  own.onerror = () => source === own && lost();
}

/** A break of less than a second is not worth a word; `EventSource` does not say why it ended, so `/api/me` is asked. */
function lost() {
  source?.close();
  source = null;
  calm ||= setTimeout(() => {
    app.set({ live: "lost" });
    say(t("lost"));
  }, 1000);
  const wait = Math.min(SLOWEST, 500 * 2 ** tries) * (0.8 + 0.4 * Math.random());
  tries += 1;
  timer = setTimeout(retry, wait);
}

async function retry() {
  try {
    await api.get("me");
  } catch (error) {
    if (error.status === 401) return; // the sign-in form is shown now, and connects afterwards
    return lost();
  }
  open();
}

function snapshot({ clips, me }) {
  const wasLost = app.get().live === "lost";
  clearTimeout(calm);
  calm = 0;
  tries = 0;
  const before = app.get().clips;
  const finished = clips.filter((clip) => !unfinished(clip)).length;
  app.set(({ snapshots }) => ({
    live: "live",
    me: me ?? app.get().me,
    clips: new Map(clips.map((clip) => [clip.id, withPrompt(clip)])),
    hasMore: finished >= 50,
    snapshots: snapshots + 1,
  }));
  if (wasLost) say(t("back"));
  for (const clip of clips) noticeEnd(before.get(clip.id), clip);
}

function clipChanged(clip) {
  const before = app.get().clips.get(clip.id);
  mergeClips([clip]);
  noticeEnd(before, clip);
}

function noticeEnd(before, clip) {
  if (before && unfinished(before) && (clip.status === "succeeded" || clip.status === "failed")) announce(clip);
}

function progressed({ id, ...changes }) {
  const clip = app.get().clips.get(id);
  if (clip && unfinished(clip)) mergeClips([{ ...clip, ...changes }]);
}
