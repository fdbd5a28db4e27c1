// Kinora's page: it begins here.
import { html, render, useEffect, useState } from "./html.js";
import * as api from "./api.js";
import { Compare } from "./compare.js";
import { Compose } from "./compose.js";
import { Confirm } from "./dialog.js";
import { Older } from "./older.js";
import { currentModel, form } from "./form.js";
import { Gallery } from "./gallery.js";
import { Header } from "./header.js";
import { Icon, IconButton, Mark } from "./icons.js";
import { connect, disconnect } from "./live.js";
import { Pick } from "./pick.js";
import { Queue } from "./queue.js";
import { SignIn } from "./signin.js";
import { app, closeDialog, dismiss, prefs } from "./store.js";
import { t } from "./texts.js";
import { listenForFiles } from "./uploads.js";
import { Viewer } from "./viewer.js";

const DIALOGS = { confirm: Confirm, viewer: Viewer, compare: Compare, older: Older, pick: Pick };
const AGAIN = 2000; // milliseconds until a server that does not answer is asked again

/** Asks who this is and what there is to choose from, then listens. A server that is away is asked until it is back. */
async function begin() {
  try {
    const [me, { models, presets }] = await Promise.all([api.get("me"), api.get("models")]);
    const usable = models.filter((model) => !model.problem);
    app.set({ me, models: usable, broken: models.filter((model) => model.problem), presets: presets ?? [], session: "ready" });
    const model = currentModel(usable, form.get().model);
    if (model) form.set({ model: model.name });
    connect();
  } catch (error) {
    if (error.status === 401) return;
    app.set({ live: "lost" });
    setTimeout(begin, AGAIN);
  }
}

function Messages() {
  const messages = app.use((state) => state.messages);
  return html`<div class="messages" role="region" aria-label=${t("notices")}>${messages.map(({ id, text, kind, title, action }) => html`<div key=${id} class=${`message ${kind}`} role=${kind === "error" ? "alert" : "status"}>
    <${Icon} name=${kind === "note" ? "check" : "warning"} /><div>${title && html`<b>${title}</b>`}<p>${text}</p></div>
    ${action && html`<button type="button" class="small" onClick=${() => (dismiss(id), action.run())}>${action.label}</button>`}
    <${IconButton} icon="close" label=${t("dismiss")} onClick=${() => dismiss(id)} /></div>`)}</div>`;
}

const Lost = () => html`<p class="lost"><i aria-hidden="true" />${t("lost")}</p>`;

function Page() {
  const live = app.use((state) => state.live);
  const [over, setOver] = useState(false);
  useEffect(() => listenForFiles(setOver), []);
  return html`<a class="skip" href="#prompt">${t("skip")}</a>
    <${Header} />
    ${live === "lost" && html`<${Lost} />`}
    <main class=${over ? "page dropping" : "page"}>
      <${Compose} />
      <div class="side"><${Queue} /><${Gallery} /></div>
    </main>
    ${over && html`<div class="veil" aria-hidden="true"><span>${t("dropHere")}</span></div>`}`;
}

function Root() {
  const session = app.use((state) => state.session);
  const dialog = app.use((state) => state.dialog);
  const said = app.use((state) => state.said);
  const live = app.use((state) => state.live);
  prefs.use((chosen) => chosen.language); // all texts are made again in the other language
  useEffect(() => {
    if (session !== "signin") return;
    disconnect();
    closeDialog();
  }, [session]);
  const Shown = dialog && DIALOGS[dialog.kind];
  return html`${session === "ready" && html`<${Page} />`}
    ${session === "signin" && html`<${SignIn} onSignedIn=${begin} />`}
    ${session === "loading" && html`<main class="loading"><${Mark} /><h1 class="hidden">Kinora</h1>${live === "lost" ? html`<${Lost} />` : html`<p class="hidden">${t("loading")}</p>`}</main>`}
    ${Shown && session === "ready" && html`<${Shown} key=${dialog.kind === "viewer" ? "viewer" : dialog} ...${dialog} />`}
    <${Messages} />
    <div class="hidden" aria-live="polite" role="status" data-said>${said}</div>`;
}

render(html`<${Root} />`, document.getElementById("app"));
begin();
