// The head of the page: what is left of credits and storage, and this browser's settings.
import { html, useRef, useState } from "./html.js";
import { signOut } from "./actions.js";
import { Choice, Switch } from "./fields.js";
import { bytes, soon } from "./format.js";
import { IconButton, Mark } from "./icons.js";
import { allowNotification, chime } from "./notify.js";
import { useLeave } from "./prompt.js";
import { app, message, prefs } from "./store.js";
import { t } from "./texts.js";

const Meter = ({ label, short, share, low }) => html`<span class=${low ? "meter low" : "meter"} title=${label}>
  <span class="meter-bar" aria-hidden="true"><i style=${{ transform: `scaleX(${Math.min(1, Math.max(0, share))})` }} /></span>
  <span class="meter-long">${label}</span><span class="meter-short" aria-hidden="true">${short}</span></span>`;

function Limits({ me }) {
  if (!me) return null;
  const { credits, storage } = me;
  return html`${credits && html`<${Meter} label=${t("credits", credits)} short=${t("creditsShort", credits)} share=${credits.left / Math.max(1, credits.daily)} low=${credits.left < credits.daily * 0.1} />`}
    ${storage?.quota && html`<${Meter} label=${t("storage", { used: bytes(storage.used), quota: bytes(storage.quota) })} short=${bytes(storage.used)} share=${storage.used / storage.quota}
      low=${storage.used > storage.quota * 0.9} />`}`;
}

function Settings({ me }) {
  const [open, setOpen] = useState(false);
  const root = useRef();
  const chosen = prefs.use();
  useLeave(root, open, () => setOpen(false));
  const sound = (on) => {
    prefs.set({ sound: on });
    if (on) chime();
  };
  const notification = async (on, box) => {
    const why = on ? await allowNotification() : null;
    if (why) {
      box.checked = false;
      message(t(why), { kind: "warning" });
    }
    prefs.set({ notification: on && !why });
  };
  return html`<div class="settings" ref=${root}>
    <${IconButton} icon="sliders" label=${t("settings")} aria-expanded=${open} aria-controls="settings-menu" onClick=${() => setOpen(!open)} />
    ${open && html`<div class="popover settings-menu" id="settings-menu" role="group" aria-label=${t("settings")}>
      ${me?.signed_in && html`<p class="hint">${t("signedInAs", { name: me.name || me.owner })}</p>`}
      <${Choice} name="language" label=${t("language")} value=${chosen.language} options=${[["en", "English"], ["zh", "中文"]]} onChange=${(language) => prefs.set({ language })} />
      <${Choice} name="theme" label=${t("theme")} value=${chosen.theme} options=${[["auto", t("themeAuto")], ["light", t("themeLight")], ["dark", t("themeDark")]]} onChange=${(theme) => prefs.set({ theme })} />
      <fieldset class="choice"><legend>${t("whenDone")}</legend>
        <${Switch} label=${t("sound")} checked=${chosen.sound} onChange=${sound} />
        <${Switch} label=${t("notification")} checked=${chosen.notification} onChange=${notification} />
      </fieldset>
      ${me?.credits?.resets_at && html`<p class="hint">${t("creditsReset", { when: soon(me.credits.resets_at) })}</p>`}
      ${me?.signed_in && me?.keys && html`<button type="button" class="small" onClick=${signOut}>${t("signOut")}</button>`}
    </div>`}
  </div>`;
}

export function Header() {
  const me = app.use((state) => state.me);
  return html`<header class="top">
    <h1 class="brand"><${Mark} />Kinora</h1>
    <div class="top-right"><${Limits} me=${me} /><${Settings} me=${me} /></div>
  </header>`;
}
