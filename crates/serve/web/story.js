// A story: shots one after another, each with its own words, length and camera.
import { html, classes, useLayoutEffect, useRef, useState } from "./html.js";
import { describe, Move } from "./camera.js";
import { FieldError } from "./fields.js";
import { decimal } from "./format.js";
import { change, changeShot, form } from "./form.js";
import { Icon, IconButton } from "./icons.js";
import { cameraOf, cameraText } from "./moves.js";
import { begins, mayHavePicture, needsPicture, newShot, secondsOf } from "./shots.js";
import { Slot } from "./slots.js";
import { message, openDialog, say } from "./store.js";
import { useSorting } from "./sorting.js";
import { stories, t } from "./texts.js";

const focus = (id) => requestAnimationFrame(() => document.getElementById(id)?.focus());
const promptId = (shots, at) => (at === 0 ? "prompt" : `${shots[at].key}-prompt`);

function put(shots, said) {
  form.set(({ errors }) => ({ shots, errors: { ...errors, shots: undefined } }));
  if (said) say(said);
}

export function moveShot(from, to) {
  const { shots } = form.get();
  if (from === to || !shots[from] || !shots[to]) return;
  put(shots.toSpliced(from, 1).toSpliced(to, 0, shots[from]), t("shotMoved", { n: to + 1, of: shots.length }));
}

function addShot() {
  const { shots } = form.get();
  const shot = newShot();
  put([...shots, shot], t("shotAdded", { n: shots.length + 1 }));
  focus(`${shot.key}-prompt`);
}

/** A shot that had words can be brought back. */
function removeShot(at) {
  const { shots } = form.get();
  const [shot] = shots.slice(at, at + 1);
  const left = shots.toSpliced(at, 1);
  put(left, t("shotRemoved", { n: at + 1 }));
  focus(promptId(left, Math.min(at, left.length - 1)));
  if (!shot.prompt.trim()) return;
  message(t("shotRemoved", { n: at + 1 }), { action: { label: t("undo"), run: () => put(form.get().shots.toSpliced(at, 0, shot)) } });
}

/** The shots as a band of time; each part leads to its shot. */
function Band({ shots, model, planned }) {
  const lengths = shots.map((shot) => Math.max(0.01, secondsOf(shot, model)));
  const total = planned ?? lengths.reduce((sum, seconds) => sum + seconds, 0);
  const label = (shot, at) => `${t("shot", { n: at + 1 })}, ${t("secondsShort", { n: decimal(lengths[at]) })}${shot.join === "cut" && at ? `, ${t("joinCut")}` : ""}`;
  return html`<div class="story-head">
    <p><b>${t("shots", { n: shots.length })}</b><span class="story-total">${t("secondsShort", { n: decimal(total) })}</span></p>
    <div class="story-band" role="group" aria-label=${t("storyBand")}>${shots.map((shot, at) => html`<button type="button" key=${shot.key} class=${classes(shot.join === "cut" && at > 0 && "cut", !shot.prompt.trim() && "blank")}
      style=${{ flexGrow: lengths[at] }} aria-label=${label(shot, at)} title=${label(shot, at)} onClick=${() => focus(promptId(shots, at))}>${at + 1}</button>`)}</div>
  </div>`;
}

/** How a shot follows what is before it. */
function Follows({ shot, at }) {
  const options = [["continue", t("joinContinue"), "down"], ["cut", t("joinCut"), "scissors"]];
  return html`<fieldset class="join"><legend class="hidden">${t("join", { n: at + 1 })}</legend>
    ${options.map(([join, text, icon]) => html`<label key=${join} class=${shot.join === join ? "on" : ""}>
      <input type="radio" name=${`join-${shot.key}`} checked=${shot.join === join} onChange=${() => changeShot(shot.key, { join })} /><${Icon} name=${icon} /><span>${text}</span></label>`)}
  </fieldset>`;
}

function Words({ shot, at, id, error, onSubmit }) {
  const box = useRef();
  useLayoutEffect(() => {
    box.current.style.height = "auto";
    box.current.style.height = `${box.current.scrollHeight + 2}px`;
  }, [shot.prompt]);
  const keys = (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    onSubmit();
  };
  return html`<div class=${classes("shot-words", error && "wrong")}>
    <textarea id=${id} ref=${box} rows="2" aria-label=${t("shotPrompt", { n: at + 1 })} value=${shot.prompt} placeholder=${stories(form.get().model)[at]?.prompt ?? t("shotNext")} spellcheck="true"
      aria-invalid=${error ? "true" : undefined} aria-describedby=${error ? `${id}-error` : undefined} onInput=${(event) => changeShot(shot.key, { prompt: event.target.value })} onKeyDown=${keys} />
    <${FieldError} id=${`${id}-error`} text=${error} />
  </div>`;
}

/** What a shot has besides: one of these is open at a time. */
function Extras({ shot, at, state, model, error }) {
  const [chosen, setOpen] = useState(null);
  const picture = mayHavePicture(shot, at, state, model);
  const slot = state.slots[shot.key];
  const wanted = needsPicture(shot, at, state, model) || (picture && (slot || error)) ? "picture" : null;
  const open = chosen ?? wanted;
  const more = [shot.negative.trim() && t("negative"), shot.seed && t("seed")].filter(Boolean).join(", ");
  const parts = [
    ["camera", "camera", cameraText(shot.camera) ? describe(shot.camera) : t("camera"), Boolean(cameraText(shot.camera))],
    picture && ["picture", "image", t("slotImage"), Boolean(slot)],
    ["more", "sliders", more || t("more"), Boolean(more)],
  ].filter(Boolean);
  const id = (name) => `${shot.key}-${name}`;
  return html`<div class="shot-extras">
    ${open !== "picture" && html`<${FieldError} id=${id("error")} text=${error} />`}
    <div class="shot-row">${parts.map(([name, icon, text, set]) => html`<button type="button" key=${name} class=${classes("small quiet", set && "set")} aria-expanded=${open === name} aria-controls=${id(name)}
      aria-label=${`${t("shot", { n: at + 1 })}: ${text}`} onClick=${() => setOpen(open === name ? "" : name)}>${name === "picture" && slot ? html`<img class="thumb" src=${slot.url} alt="" />` : html`<${Icon} name=${icon} />`}<span>${text}</span></button>`)}</div>
    ${open === "camera" && html`<div class="shot-more" id=${id("camera")}><${Move} id=${id("axis")} camera=${shot.camera} onChange=${(camera) => changeShot(shot.key, { camera })} />
      ${!model.takes.includes("camera") && html`<p class="hint">${t("cameraWords")}</p>`}</div>`}
    ${open === "picture" && picture && html`<div class="shot-more" id=${id("picture")}><${Slot} name=${shot.key} slot=${slot} label=${t("slotImage")} error=${error} optional=${!needsPicture(shot, at, state, model)} /></div>`}
    ${open === "more" && html`<div class="shot-more" id=${id("more")}>
      <div class="field"><label for=${id("negative")}>${t("negative")}</label>
        <textarea id=${id("negative")} rows="2" value=${shot.negative} placeholder=${t("shotNegative")} onInput=${(event) => changeShot(shot.key, { negative: event.target.value })} /></div>
      <div class="field"><label for=${id("seed")}>${t("seed")}</label>
        <input id=${id("seed")} type="text" inputmode="numeric" autocomplete="off" value=${shot.seed} placeholder=${t("shotSeed")}
          onInput=${(event) => changeShot(shot.key, { seed: (event.target.value = event.target.value.replace(/\D/g, "").slice(0, 19)) })} /></div>
    </div>`}
  </div>`;
}

function Shot({ shot, at, state, model, errors, sorting, onSubmit }) {
  const { shots } = state;
  const name = t("shot", { n: at + 1 });
  const follows = at > 0 || Boolean(state.slots.extend);
  const id = promptId(shots, at);
  const error = errors[shot.key];
  return html`<li class=${classes("shot", sorting.classOf(at))} aria-label=${name} data-shot=${at + 1}>
    ${follows && html`<${Follows} shot=${shot} at=${at} />`}
    <div class=${classes("shot-card", error && "faulty", follows && !begins(shot, at, state) && "joined")}>
      <div class="shot-head">
        <${IconButton} icon="grip" class="grip" id=${`${shot.key}-grip`} label=${t("shotMove", { n: at + 1, of: shots.length })} aria-disabled=${shots.length < 2} ...${sorting.handle(at)} />
        <h3>${name}</h3>
        <div class="shot-seconds"><input type="number" inputmode="decimal" min="0.1" step="any" aria-label=${t("shotSeconds", { n: at + 1 })} title=${t("seconds")} value=${shot.seconds} placeholder=${decimal(model.seconds)}
          onInput=${(event) => changeShot(shot.key, { seconds: event.target.value })} /><span aria-hidden="true">${t("secondsUnit")}</span></div>
        <${IconButton} icon="up" id=${`${shot.key}-up`} label=${t("shotUp", { n: at + 1 })} aria-disabled=${at === 0} onClick=${() => (moveShot(at, at - 1), focus(`${shot.key}-up`))} />
        <${IconButton} icon="below" id=${`${shot.key}-down`} label=${t("shotDown", { n: at + 1 })} aria-disabled=${at === shots.length - 1} onClick=${() => (moveShot(at, at + 1), focus(`${shot.key}-down`))} />
        <${IconButton} icon="close" label=${t("shotRemove", { n: at + 1 })} aria-disabled=${shots.length < 2} onClick=${() => shots.length > 1 && removeShot(at)} />
      </div>
      <${Words} shot=${shot} at=${at} id=${id} error=${errors[`${shot.key}-prompt`]} onSubmit=${onSubmit} />
      <${Extras} shot=${shot} at=${at} state=${state} model=${model} error=${error} />
    </div>
  </li>`;
}

function After({ state, errors }) {
  const { extend } = state.slots;
  if (extend) return html`<${Slot} name="extend" slot=${extend} label=${t("storyAfter")} error=${errors.extend} optional />`;
  return html`<button type="button" class="small quiet story-after" id="slot-extend" onClick=${() => openDialog({ kind: "pick", slot: "extend", media: "video", files: false })}>
    <${Icon} name="continue" />${t("storyAfterAdd")}</button>`;
}

export function Story({ state, model, errors, planned, onSubmit }) {
  const { shots } = state;
  const sorting = useSorting(shots.length, moveShot, (at) => focus(`${shots[at].key}-grip`));
  const blank = shots.every((shot) => !shot.prompt.trim());
  const example = () => change({ shots: stories(model.name).map((shot) => newShot({ ...shot, camera: cameraOf(shot.camera) })) });
  return html`<div class="story">
    <${Band} shots=${shots} model=${model} planned=${planned} />
    ${(!blank || state.slots.extend) && html`<${After} state=${state} errors=${errors} />`}
    ${blank && html`<div class="examples"><button type="button" class="chip" onClick=${example}><span>${t("storyExample")}</span></button></div>`}
    <ol class="shots" ref=${sorting.list}>${shots.map((shot, at) => html`<${Shot} key=${shot.key} shot=${shot} at=${at} state=${state} model=${model} errors=${errors} sorting=${sorting} onSubmit=${onSubmit} />`)}</ol>
    <${FieldError} id="shots-error" text=${errors.shots} />
    <button type="button" class="add-shot" id="shots" onClick=${addShot}><${Icon} name="plus" />${t("shotAdd")}</button>
  </div>`;
}
