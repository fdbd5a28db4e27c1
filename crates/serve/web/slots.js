// The places for pictures and clips that a request starts from.
import { html, classes, useRef, useState } from "./html.js";
import { form, mediaOf, MOST_REFERENCES, slotOf, TABS } from "./form.js";
import { Icon, IconButton } from "./icons.js";
import { FieldError } from "./fields.js";
import { openDialog } from "./store.js";
import { t } from "./texts.js";
import { clearSlot, CLIP_TYPE, putInto, sendTo } from "./uploads.js";

const LABELS = { image: "slotImage", last_image: "slotLast", video: "slotVideo", control: "slotControl", mask: "slotMask", extend: "slotExtend" };
const ACCEPT = { image: "image/png,image/jpeg,image/webp,image/gif,image/bmp", video: "video/*,image/gif,image/webp" };

/** A clip dragged from the gallery, or a file. The page's own listener sees that the drop was taken. */
function dropped(event, name, media, files) {
  event.preventDefault();
  const clip = event.dataTransfer.getData(CLIP_TYPE);
  const file = event.dataTransfer.files[0];
  if (clip) putInto(name, slotOf(clip, media));
  else if (file && files) sendTo(name, file);
}

function Filled({ slot, name, label }) {
  const sending = slot.share !== undefined;
  const percent = Math.round(100 * (slot.share ?? 0));
  return html`<div class="slot-media">
    ${slot.media === "video"
      ? html`<video src=${slot.url} muted loop playsinline autoplay=${!matchMedia("(prefers-reduced-motion: reduce)").matches} aria-label=${slot.name || label} />`
      : html`<img src=${slot.url} alt=${slot.name || label} />`}
    ${sending && html`<div class="slot-sending">
      <div class="bar" role="progressbar" aria-label=${label} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${percent}><i style=${{ transform: `scaleX(${slot.share})` }} /></div>
      <span>${t("slotSending", { n: percent })}</span></div>`}
    <${IconButton} class="slot-remove" icon="close" label=${sending ? t("slotStop") : t("slotRemove", { what: label })} onClick=${() => clearSlot(name)} />
  </div>`;
}

/** One slot: a target for drops with a button to upload and one to choose from what is there. */
export function Slot({ name, slot, label, error, optional }) {
  const media = mediaOf(name);
  const files = name !== "extend"; // a clip is continued from what made it, so it must be one of the server's
  const input = useRef();
  const [over, setOver] = useState(false);
  const drag = {
    onDragOver: (event) => event.preventDefault(),
    onDragEnter: () => setOver(true),
    onDragLeave: (event) => !event.currentTarget.contains(event.relatedTarget) && setOver(false),
    onDrop: (event) => (setOver(false), dropped(event, name, media, files)),
  };
  const chosen = (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) sendTo(name, file);
  };
  const id = `slot-${name}`;
  const hint = !files ? "slotPick" : media === "image" ? "slotDropImage" : "slotDropVideo";
  return html`<div class=${classes("slot", slot && "filled", over && "over", error && "wrong")} role="group" aria-labelledby=${`${id}-label`}
    aria-describedby=${error ? `${id}-error` : undefined} ...${drag}>
    <div class="slot-label" id=${`${id}-label`}>${label}${optional && html` <small>${t("optional")}</small>`}</div>
    ${slot
      ? html`<${Filled} slot=${slot} name=${name} label=${label} />`
      : html`<div class="slot-empty">
          <${Icon} name=${media === "image" ? "image" : "film"} />
          <p>${t(hint)}</p>
        </div>`}
    <div class="slot-actions">
      ${files && html`<button type="button" class="small" id=${id} onClick=${() => input.current.click()}>${t("slotUpload")}</button>
        <input ref=${input} type="file" hidden accept=${ACCEPT[media]} data-slot=${name} onChange=${chosen} />`}
      <button type="button" class="small" id=${files ? undefined : id} onClick=${() => openDialog({ kind: "pick", slot: name, media, files })}>${t("slotMine")}</button>
    </div>
    <${FieldError} id=${`${id}-error`} text=${error} />
  </div>`;
}

/** The slots of a tab. */
export function Slots({ tab, model }) {
  const slots = form.use((state) => state.slots);
  const references = form.use((state) => state.references);
  const errors = form.use((state) => state.errors);
  const { needs, may } = TABS[tab];
  const names = [...needs, ...may];
  if (!names.length) return null;
  const withReferences = tab === "control" && model.takes.includes("references");
  const count = Math.min(MOST_REFERENCES, references.length + 1);
  return html`<div class=${classes("slots", names.length > 1 && "several")}>
    ${names.map((name) => html`<${Slot} key=${name} name=${name} slot=${slots[name]} label=${t(LABELS[name])} error=${errors[name]} optional=${may.includes(name)} />`)}
    ${withReferences && Array.from({ length: count }, (_, at) => html`<${Slot} key=${`reference-${at}`} name=${`references.${at}`} slot=${references[at]}
      label=${t("slotReference", { n: at + 1 })} error=${at === 0 ? errors.references : undefined} optional />`)}
  </div>`;
}
