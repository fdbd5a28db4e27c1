// Choosing what is already on the server: one of the finished clips, or an earlier upload.
import { html, useEffect, useState } from "./html.js";
import * as api from "./api.js";
import { attempt } from "./actions.js";
import { Dialog } from "./dialog.js";
import { short } from "./format.js";
import { slotOf } from "./form.js";
import { IconButton } from "./icons.js";
import { app, closeDialog, finishedOf } from "./store.js";
import { t } from "./texts.js";
import { putInto } from "./uploads.js";

export function Pick({ slot, media, files }) {
  const clips = finishedOf(app.use((state) => state.clips)).filter((clip) => clip.status === "succeeded");
  const [uploads, setUploads] = useState([]);
  useEffect(() => {
    if (files) attempt(api.get("files")).then((answer) => setUploads((answer?.files ?? []).filter((file) => file.media === media)));
  }, []);
  const choose = (id, name) => {
    putInto(slot, { ...slotOf(id, media), name });
    closeDialog();
  };
  const forget = async (id) => {
    if ((await attempt(api.remove(`files/${encodeURIComponent(id)}`))) !== undefined) setUploads(uploads.filter((file) => file.id !== id));
  };
  return html`<${Dialog} label=${t("pickTitle")}>
    ${media === "image" && clips.length > 0 && html`<p class="hint">${t("pickFrame")}</p>`}
    ${clips.length + uploads.length === 0 && html`<p class="hint">${t("pickNone")}</p>`}
    <ul class="pick">${clips.map((clip) => html`<li key=${clip.id}><button type="button" aria-label=${short(clip.request.prompt)} title=${short(clip.request.prompt)}
      onClick=${() => choose(clip.id, media === "image" ? t("fromClip") : short(clip.request.prompt, 40))}>
      <img src=${api.clipAddress(clip.id, media === "image" ? "last" : "thumbnail")} alt="" loading="lazy" /></button></li>`)}</ul>
    ${uploads.length > 0 && html`<h3>${t("pickFiles")}</h3>
      <ul class="pick">${uploads.map((file) => html`<li key=${file.id}><button type="button" aria-label=${file.name} title=${file.name} onClick=${() => choose(file.id, file.name)}>
        ${file.media === "image" ? html`<img src=${api.fileAddress(file.id)} alt="" loading="lazy" />` : html`<video src=${api.fileAddress(file.id)} muted preload="metadata" />`}</button>
        <${IconButton} icon="trash" label=${`${t("delete")}: ${file.name}`} onClick=${() => forget(file.id)} /></li>`)}</ul>`}
  </${Dialog}>`;
}
