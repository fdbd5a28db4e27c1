// Finished clips: a grid of thumbnails, filters, and what can be done with several at once.
import { html, classes, useEffect, useRef, useState } from "./html.js";
import * as api from "./api.js";
import { attempt, deleteClips, updateClip } from "./actions.js";
import { Choice } from "./fields.js";
import { decimal, short } from "./format.js";
import { Icon, IconButton, Mark } from "./icons.js";
import { aspectOf } from "./queue.js";
import { app, createStore, finishedOf, mergeClips, openDialog } from "./store.js";
import { t } from "./texts.js";
import { CLIP_TYPE } from "./uploads.js";

const PAGE = 48;
const STATUS = { failed: "failed,cancelled,expired" };

/** What the gallery shows; the viewer goes through the same list. */
export const gallery = createStore({ filter: "all", text: "", selecting: false, selected: new Set() });

const matches = (clip, { filter, text }) =>
  (filter === "all" || (filter === "starred" ? clip.starred : clip.status !== "succeeded")) && (!text || clip.request.prompt.toLowerCase().includes(text.toLowerCase()));

export const shownClips = (clips, state) => finishedOf(clips).filter((clip) => matches(clip, state));

function query({ filter, text }, after) {
  const parts = { limit: PAGE, status: STATUS[filter] ?? "succeeded,failed,cancelled,expired", starred: filter === "starred" ? "true" : null, text: text || null, after };
  return new URLSearchParams(Object.entries(parts).filter(([, value]) => value));
}

/** Asks the server for what the filter shows and this tab does not have yet. */
function usePages(state) {
  const [more, setMore] = useState(false);
  const depth = useRef(0);
  const snapshots = app.use((all) => all.snapshots);
  const load = async (after, last) => {
    const answer = await attempt(api.get(`clips?${query(state, after)}`));
    if (!answer || last.stopped) return null;
    mergeClips(answer.clips);
    setMore(answer.has_more);
    return answer;
  };
  useEffect(() => {
    const last = { stopped: false };
    const unfiltered = state.filter === "all" && !state.text;
    setMore(unfiltered && app.get().hasMore);
    const timer = setTimeout(async () => {
      // After a new snapshot as many pages are loaded again as there were.
      let after = unfiltered && app.get().hasMore ? shownClips(app.get().clips, state).at(-1)?.id : null;
      const pages = unfiltered ? depth.current : depth.current + 1;
      for (let page = 0; page < pages && !last.stopped; page += 1) {
        const answer = await load(after, last);
        if (!answer?.has_more) break;
        after = answer.clips.at(-1).id;
      }
    }, state.text ? 250 : 0);
    return () => {
      last.stopped = true;
      clearTimeout(timer);
    };
  }, [state.filter, state.text, snapshots]);
  useEffect(() => {
    depth.current = 0;
  }, [state.filter, state.text]);
  const next = () => {
    depth.current += 1;
    return load(shownClips(app.get().clips, state).at(-1)?.id, { stopped: false });
  };
  return { more, next };
}

function Picture({ clip, active }) {
  const [broken, setBroken] = useState(false);
  if (clip.status !== "succeeded") {
    return html`<div class="tile-note"><${Icon} name=${clip.status === "failed" ? "warning" : "close"} /><b>${t(clip.status)}</b>${clip.error && html`<span>${short(clip.error.message, 120)}</span>`}</div>`;
  }
  return html`${broken ? html`<div class="tile-note"><${Icon} name="film" /></div>` : html`<img src=${api.clipAddress(clip.id, "thumbnail")} alt="" loading="lazy" draggable=${false} onError=${() => setBroken(true)} />`}
    ${active && html`<video src=${api.clipAddress(clip.id, "video")} muted loop playsinline autoplay aria-hidden="true" tabindex="-1" />`}`;
}

function Tile({ clip, selecting, selected }) {
  const [active, setActive] = useState(false);
  const prompt = short(clip.request.prompt);
  const ratio = Math.min(2.4, Math.max(0.56, aspectOf(clip)));
  const toggle = () => {
    const next = new Set(gallery.get().selected);
    if (!next.delete(clip.id)) next.add(clip.id);
    gallery.set({ selected: next });
  };
  const on = () => setActive(!matchMedia("(prefers-reduced-motion: reduce)").matches);
  const seconds = clip.result && clip.result.frames / clip.result.fps;
  const label = selecting ? t("selectClip", { prompt }) : t("open", { prompt });
  const drag = (event) => {
    event.dataTransfer.setData(CLIP_TYPE, clip.id);
    event.dataTransfer.effectAllowed = "copy";
    const picture = event.currentTarget.parentElement.querySelector("img");
    if (picture) event.dataTransfer.setDragImage(picture, 20, 20);
  };
  return html`<li class=${classes("tile", selected && "selected", clip.status !== "succeeded" && "bad")} style=${{ flexGrow: ratio, flexBasis: `calc(var(--row) * ${ratio})` }} data-clip=${clip.id}
    onPointerEnter=${(event) => event.pointerType === "mouse" && on()} onPointerLeave=${() => setActive(false)} onFocusIn=${on} onFocusOut=${() => setActive(false)}>
    <div class="tile-frame" style=${{ aspectRatio: String(ratio) }}>
      <button type="button" class="tile-open" aria-label=${label} role=${selecting ? "checkbox" : undefined} aria-checked=${selecting ? selected : undefined}
        draggable=${clip.status === "succeeded"} onDragStart=${drag} onClick=${() => (selecting ? toggle() : openDialog({ kind: "viewer", id: clip.id }))} />
      <div class="tile-picture">
        <${Picture} clip=${clip} active=${active} />
        ${seconds && html`<span class="tile-time">${t("secondsShort", { n: decimal(seconds) })}</span>`}
        ${selecting && html`<span class="tile-check" aria-hidden="true">${selected && html`<${Icon} name="check" />`}</span>`}
      </div>
      ${!selecting && html`<${IconButton} icon="star" filled=${clip.starred} class=${classes("tile-star", clip.starred && "on")} label=${`${t(clip.starred ? "unstar" : "star")}: ${prompt}`} aria-pressed=${clip.starred}
        onClick=${() => updateClip(clip.id, { starred: !clip.starred })} />`}
    </div>
    <p class="tile-prompt">${prompt}</p>
  </li>`;
}

const leave = () => gallery.set({ selecting: false, selected: new Set() });

function SelectBar({ list, selected }) {
  const chosen = list.filter((clip) => selected.has(clip.id));
  const ids = chosen.map((clip) => clip.id);
  const two = chosen.length === 2 && chosen.every((clip) => clip.status === "succeeded");
  return html`<div class="select-bar" role="region" aria-label=${t("select")}>
    <b role="status">${t("selected", { n: ids.length })}</b>
    <button type="button" class="small" onClick=${() => gallery.set({ selected: new Set(list.map((clip) => clip.id)) })}>${t("selectAll")}</button>
    <button type="button" class="small" disabled=${!two} title=${t("compareHint")} onClick=${() => openDialog({ kind: "compare", ids })}><${Icon} name="compare" />${t("compare")}</button>
    <button type="button" class="small" disabled=${!ids.length} onClick=${() => chosen.forEach((clip) => clip.starred || updateClip(clip.id, { starred: true }))}><${Icon} name="star" />${t("star")}</button>
    <button type="button" class="small danger-text" disabled=${!ids.length} onClick=${() => deleteClips(ids, leave)}><${Icon} name="trash" />${t("delete")}</button>
    <button type="button" class="small danger-text" onClick=${() => openDialog({ kind: "older", onDone: leave })}>${t("older")}</button>
    <button type="button" class="small primary" onClick=${leave}>${t("done")}</button>
  </div>`;
}

const Empty = () => html`<div class="empty"><${Mark} /><h3>${t("emptyTitle")}</h3><p>${t("emptyText")}</p><p class="hint">${t("dropHint")}</p></div>`;

const NoMatch = () => html`<div class="empty small-empty"><p>${t("noMatch")}</p>
  <button type="button" class="small" onClick=${() => gallery.set({ filter: "all", text: "" })}>${t("showAll")}</button></div>`;

export function Gallery() {
  const clips = app.use((state) => state.clips);
  const live = app.use((state) => state.snapshots > 0);
  const state = gallery.use();
  const { more, next } = usePages(state);
  const list = shownClips(clips, state);
  const any = finishedOf(clips).length > 0;
  const filters = [["all", t("all")], ["starred", t("starred")], ["failed", t("failed")]];
  return html`<section class="gallery" aria-labelledby="gallery-title" aria-busy=${!live}>
    <header class="section-head"><h2 id="gallery-title">${t("clips")}</h2>
      ${any && html`<div class="section-actions gallery-tools">
        <${Choice} name="filter" label=${t("filter")} hideLabel value=${state.filter} options=${filters} onChange=${(filter) => gallery.set({ filter })} />
        <div class="search"><${Icon} name="search" /><input type="search" aria-label=${t("search")} placeholder=${t("search")} value=${state.text} onInput=${(event) => gallery.set({ text: event.target.value })} /></div>
        <button type="button" class="small" aria-pressed=${state.selecting} onClick=${() => (state.selecting ? leave() : gallery.set({ selecting: true }))}>${t("select")}</button>
      </div>`}
    </header>
    ${!live ? html`<ul class="grid-clips waiting" aria-hidden="true">${[1.78, 1.78, 1, 1.78].map((ratio) => html`<li class="tile" style=${{ flexGrow: ratio, flexBasis: `calc(var(--row) * ${ratio})` }}><div class="tile-frame" style=${{ aspectRatio: String(ratio) }} /></li>`)}</ul>`
      : !any && !more ? html`<${Empty} />` : !list.length ? html`<${NoMatch} />`
      : html`<ul class="grid-clips">${list.map((clip) => html`<${Tile} key=${clip.id} clip=${clip} selecting=${state.selecting} selected=${state.selected.has(clip.id)} />`)}<li class="grid-rest" aria-hidden="true" /></ul>`}
    ${more && live && html`<div class="more-clips"><button type="button" onClick=${next}>${t("loadMore")}</button></div>`}
    ${state.selecting && html`<${SelectBar} list=${list} selected=${state.selected} />`}
  </section>`;
}
