// Clips that run and clips that wait.
import { html, classes, useEffect, useRef, useState } from "./html.js";
import { cancelAll, cancelClip, editClip, moveTo, moveUp, pauseAll, updateClip } from "./actions.js";
import { clipAddress } from "./api.js";
import { form } from "./form.js";
import { short, size, span } from "./format.js";
import { IconButton } from "./icons.js";
import { app, message, queueOf, say } from "./store.js";
import { t } from "./texts.js";

const STAGES = { load: "stageLoad", text: "stageText", encode: "stageEncode", steps: "stageSteps", frames: "stageFrames" };

/** The aspect of a clip's frames, before there are any. */
export function aspectOf({ result, plan, request }) {
  const known = result ?? plan;
  if (known?.width) return known.width / known.height;
  if (request.width && request.height) return request.width / request.height;
  const [w, h] = (request.aspect ?? "16:9").split(":").map(Number);
  return w && h ? w / h : 16 / 9;
}

/** The newest preview. The next one is shown when it has been loaded, so that the picture neither blinks nor changes its size. */
function Preview({ clip }) {
  const [shown, setShown] = useState(null);
  const address = clip.preview ? `${clipAddress(clip.id, "preview")}?n=${clip.preview}` : null;
  useEffect(() => {
    if (!address) return undefined;
    const next = new Image();
    next.onload = () => setShown(address);
    next.src = address;
    return () => (next.onload = null);
  }, [address]);
  return html`<div class="preview" style=${{ aspectRatio: String(Math.min(2.4, Math.max(0.8, aspectOf(clip)))) }}>
    ${shown ? html`<img src=${shown} alt=${t("preview")} />` : html`<div class="preview-wait" aria-hidden="true"><i /><i /><i /></div>`}
  </div>`;
}

function stageText({ status, stage }) {
  if (status === "cancelling") return t("cancelling");
  return stage ? t(STAGES[stage.stage] ?? "running", stage) : t("running");
}

function Running({ clip }) {
  const stage = stageText(clip);
  const left = clip.seconds_left;
  const { plan } = clip;
  return html`<li class="card running" data-clip=${clip.id}>
    <${Preview} clip=${clip} />
    <div class="card-body">
      <p class="card-prompt">${short(clip.request.prompt, 200)}</p>
      ${plan && html`<p class="hint">${size(plan.width, plan.height)} · ${t("planFrames", { n: plan.frames })} · ${t("planSteps", { n: plan.steps })}${clip.request.shots?.length ? ` · ${t("shots", { n: clip.request.shots.length })}` : ""}</p>`}
      <div class="progress">
        <div class="bar" role="progressbar" aria-label=${short(clip.request.prompt)} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round(clip.progress)} aria-valuetext=${stage}>
          <i style=${{ transform: `scaleX(${clip.progress / 100})` }} /></div>
        <div class="progress-text"><span>${stage}</span><span>${left === undefined || left === null ? (clip.status === "running" ? t("timeMeasuring") : "") : t("timeLeft", { time: span(left) })}</span></div>
      </div>
      <button type="button" class="small" aria-label=${t("cancelClip", { prompt: short(clip.request.prompt) })} disabled=${clip.status === "cancelling"} onClick=${() => cancelClip(clip.id)}>${t("cancel")}</button>
    </div>
  </li>`;
}

function place(clip) {
  if (clip.paused) return t("paused");
  if (!clip.position) return t("waiting");
  return clip.position === 1 ? t("next") : t("place", { n: clip.position });
}

const ROW_TYPE = "application/x-kinora-row";

/** Rows that are dragged go where a line shows; keyboards and fingers have the buttons. */
function useDragging(clip, waiting) {
  const [over, setOver] = useState("");
  const half = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    return event.clientY > box.top + box.height / 2 ? "below" : "above";
  };
  const carries = (event) => event.dataTransfer.types.includes(ROW_TYPE);
  const rows = {
    draggable: waiting.length > 1,
    onDragStart: (event) => {
      event.dataTransfer.setData(ROW_TYPE, clip.id);
      event.dataTransfer.effectAllowed = "move";
    },
    onDragOver: (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "move";
      setOver(half(event));
    },
    onDragLeave: () => setOver(""),
    onDrop: (event) => {
      setOver("");
      if (!carries(event)) return;
      event.preventDefault();
      const moved = waiting.find((one) => one.id === event.dataTransfer.getData(ROW_TYPE));
      if (moved) moveTo(moved, waiting.indexOf(clip) + (half(event) === "below" ? 1 : 0), waiting);
    },
  };
  return [over, rows];
}

function Waiting({ clip, waiting, editing }) {
  const [over, rows] = useDragging(clip, waiting);
  const prompt = short(clip.request.prompt, 60);
  const at = waiting.indexOf(clip);
  const { shots, extend, image } = clip.request;
  const tag = shots?.length ? t("shots", { n: shots.length }) : extend ? t("tabExtend") : image ? t("tabImage") : null;
  return html`<li class=${classes("row", editing && "editing-row", over && `drop-${over}`)} data-clip=${clip.id} ...${rows}>
    <span class="row-place">${place(clip)}</span>
    <span class="row-prompt" title=${clip.request.prompt}>${tag && html`<small>${tag}</small> `}${short(clip.request.prompt, 120)}</span>
    <span class="row-actions">
      ${at > 1 && html`<${IconButton} icon="first" label=${t("moveNext", { prompt })} onClick=${() => updateClip(clip.id, { before: null })} />`}
      ${at > 0 && html`<${IconButton} icon="up" label=${t("moveUp", { prompt })} onClick=${() => moveUp(clip, waiting)} />`}
      <${IconButton} icon=${clip.paused ? "play" : "pause"} label=${t(clip.paused ? "resumeClip" : "pauseClip", { prompt })} onClick=${() => updateClip(clip.id, { paused: !clip.paused })} />
      <${IconButton} icon="edit" label=${t("editClip", { prompt })} aria-pressed=${editing} onClick=${() => editClip(clip)} />
      <${IconButton} icon="close" label=${t("cancelClip", { prompt })} onClick=${() => cancelClip(clip.id)} />
    </span>
  </li>`;
}

/** A clip that is being edited may start meanwhile: the form then makes a new one, and says so. */
function useEditing(clips) {
  const editing = form.use((state) => state.editing);
  const known = useRef(null);
  useEffect(() => {
    if (editing && clips.get(editing)?.status !== "queued" && known.current === editing) {
      form.set({ editing: null });
      message(t("editingGone"), { kind: "warning" });
      say(t("editingGone"));
    }
    known.current = editing;
  }, [editing, clips]);
  return editing;
}

export function Queue() {
  const clips = app.use((state) => state.clips);
  const editing = useEditing(clips);
  const queue = queueOf(clips);
  const running = queue.filter((clip) => clip.status !== "queued");
  const waiting = queue.filter((clip) => clip.status === "queued");
  useEffect(() => {
    const first = running[0];
    document.title = first ? `${Math.round(first.progress)} % · Kinora` : waiting.length ? `(${waiting.length}) Kinora` : "Kinora";
  });
  if (!queue.length) return null;
  const paused = waiting.length > 0 && waiting.every((clip) => clip.paused);
  return html`<section class="queue" aria-labelledby="queue-title">
    <header class="section-head"><h2 id="queue-title">${t("queue")} <small>${queue.length}</small></h2>
      ${waiting.length > 0 && html`<div class="section-actions">
        <button type="button" class="small quiet" onClick=${() => pauseAll(!paused)}>${t(paused ? "resumeAll" : "pauseAll")}</button>
        <button type="button" class="small quiet" onClick=${() => cancelAll(waiting.length)}>${t("cancelAll")}</button></div>`}
    </header>
    ${running.length > 0 && html`<ul class="cards">${running.map((clip) => html`<${Running} key=${clip.id} clip=${clip} />`)}</ul>`}
    ${waiting.length > 0 && html`<ol class="rows">${waiting.map((clip) => html`<${Waiting} key=${clip.id} clip=${clip} waiting=${waiting} editing=${clip.id === editing} />`)}</ol>`}
  </section>`;
}
