// One clip, large, with what made it and what can be done with it.
import { html, useEffect, useState } from "./html.js";
import * as api from "./api.js";
import { continueFrom, deleteClips, updateClip, useSettings } from "./actions.js";
import { describe } from "./camera.js";
import { cameraFrom, cameraOf } from "./moves.js";
import { Dialog } from "./dialog.js";
import { bytes, decimal, measured, moment, size } from "./format.js";
import { takes } from "./form.js";
import { gallery, shownClips } from "./gallery.js";
import { Icon, IconButton } from "./icons.js";
import { app, closeDialog, openDialog, say } from "./store.js";
import { t } from "./texts.js";

const sum = (seconds) => (Array.isArray(seconds) ? seconds[3] : seconds);

/** The settings as pairs of a label and a value; the compare view shows those that differ. */
export function facts(clip, models, me) {
  const { request, plan, result } = clip;
  const made = result ?? plan;
  const pairs = [
    ["model", models.find((model) => model.name === request.model)?.title ?? request.model],
    ["size", made && size(made.width, made.height)],
    ["length", made && `${t("secondsShort", { n: decimal(made.frames / made.fps, 1) })} · ${t("planFrames", { n: made.frames })}`],
    ["steps", plan?.steps ?? request.sampling?.steps],
    ["guidance", request.sampling?.guidance_scale],
    ["speed", request.mode && t(request.mode)],
    ["preset", request.preset],
    ["camera", (request.camera || request.camera_path?.length) && describe(cameraFrom(request))],
    ["negative", request.negative_prompt],
    ["seed", clip.seed ?? request.seed],
    ["took", result?.seconds && measured(sum(result.seconds))],
    ["made", moment(clip.finished_at ?? clip.created_at)],
    ["file", result?.bytes && bytes(result.bytes)],
    ["cost", me?.credits && clip.cost ? t("planCost", { n: clip.cost }) : null],
  ];
  return pairs.filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false);
}

function Seed({ seed }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard?.writeText(seed);
    setCopied(true);
    say(t("copied"));
    setTimeout(() => setCopied(false), 1500);
  };
  return html`<span class="seed-value">${seed}${navigator.clipboard && html`<${IconButton} icon=${copied ? "check" : "copy"} label=${t("copySeed")} onClick=${copy} />`}</span>`;
}

function Screen({ clip }) {
  if (clip.status === "succeeded") {
    return html`<video key=${clip.id} src=${api.clipAddress(clip.id, "video")} poster=${api.clipAddress(clip.id, "thumbnail")} controls loop playsinline autoplay muted aria-label=${clip.request.prompt} />`;
  }
  return html`<div class="screen-note"><${Icon} name="warning" /><b>${t(`${clip.status}Title`)}</b>${clip.error && html`<p>${clip.error.message}</p>`}</div>`;
}

/** The words of a clip; of a story, those of its shots. */
function Words({ request }) {
  if (!request.shots?.length) return html`<p class="viewer-prompt">${request.prompt}</p>`;
  const notes = (shot, at) => [shot.seconds && t("secondsShort", { n: decimal(shot.seconds) }), at > 0 && shot.join === "cut" && t("joinCut"), shot.camera && describe(cameraOf(shot.camera))].filter(Boolean).join(" · ");
  return html`<ol class="viewer-prompt viewer-shots" aria-label=${t("shots", { n: request.shots.length })} tabindex="0">${request.shots.map((shot, at) => html`<li key=${at}><p>${shot.prompt}</p>${notes(shot, at) && html`<p class="hint">${notes(shot, at)}</p>`}</li>`)}</ol>`;
}

export function Viewer({ id }) {
  const clips = app.use((state) => state.clips);
  const models = app.use((state) => state.models);
  const me = app.use((state) => state.me);
  const clip = clips.get(id);
  const list = shownClips(clips, gallery.get());
  const at = list.findIndex((one) => one.id === id);
  useEffect(() => {
    if (!clip) closeDialog(); // it was deleted, perhaps in another tab
  }, [clip]);
  if (!clip) return null;
  const go = (step) => at >= 0 && list[at + step] && openDialog({ kind: "viewer", id: list[at + step].id });
  const keys = (event) => {
    if (event.target.matches("video, input, textarea") || event.altKey || event.ctrlKey || event.metaKey) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) go(step);
  };
  const done = clip.status === "succeeded";
  const can = (tab) => done && models.some((model) => takes(model, tab));
  const notices = clip.result?.notices ?? [];
  const arrows = html`<${IconButton} icon="left" label=${t("previous")} disabled=${at <= 0} onClick=${() => go(-1)} />
    <${IconButton} icon="right" label=${t("following")} disabled=${at < 0 || at === list.length - 1} onClick=${() => go(1)} />`;
  return html`<${Dialog} label=${t("viewer")} wide onKeyDown=${keys} head=${arrows}>
    <div class="viewer">
      <div class="screen"><${Screen} clip=${clip} /></div>
      <div class="viewer-side">
        <${Words} request=${clip.request} />
        <div class="viewer-actions">
          <button type="button" class="primary" onClick=${() => useSettings(clip)}><${Icon} name="sliders" />${t("useSettings")}</button>
          ${can("extend") && html`<button type="button" onClick=${() => continueFrom(clip, "extend")}><${Icon} name="continue" />${t("goOn")}</button>`}
          ${can("image") && html`<button type="button" onClick=${() => continueFrom(clip, "image")}><${Icon} name="image" />${t("lastAsFirst")}</button>`}
        </div>
        <div class="viewer-actions quiet-actions">
          ${done && html`<a class="button small" href=${`${api.clipAddress(clip.id, "video")}?download=1`} download><${Icon} name="download" />${t("download")}</a>
            <a class="button small" href=${api.clipAddress(clip.id, "recipe")} download=${`${clip.id}.json`}><${Icon} name="copy" />${t("recipe")}</a>`}
          <button type="button" class=${clip.starred ? "small on" : "small"} aria-pressed=${clip.starred} onClick=${() => updateClip(clip.id, { starred: !clip.starred })}><${Icon} name="star" filled=${clip.starred} />${t("star")}</button>
          <button type="button" class="small danger-text" onClick=${() => deleteClips([clip.id])}><${Icon} name="trash" />${t("delete")}</button>
        </div>
        <dl class="facts-list">${facts(clip, models, me).map(([name, value]) => html`<div key=${name}><dt>${t(name)}</dt><dd>${name === "seed" ? html`<${Seed} seed=${value} />` : value}</dd></div>`)}</dl>
        ${notices.length > 0 && html`<h3>${t("notices")}</h3><ul class="notices">${notices.map((notice) => html`<li><${Icon} name="info" />${notice}</li>`)}</ul>`}
      </div>
    </div>
  </${Dialog}>`;
}
