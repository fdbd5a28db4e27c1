// The form that asks for a key, on servers that have keys.
import { html, useEffect, useRef, useState } from "./html.js";
import * as api from "./api.js";
import { FieldError } from "./fields.js";
import { Mark } from "./icons.js";
import { t } from "./texts.js";

export function SignIn({ onSignedIn }) {
  const box = useRef();
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => box.current.focus(), []);
  const send = async (event) => {
    event.preventDefault();
    const key = box.current.value.trim();
    if (!key || busy) return box.current.focus();
    setBusy(true);
    try {
      await api.post("session", { key });
      await onSignedIn();
    } catch (problem) {
      setError(problem.message);
      setBusy(false);
      box.current?.select();
    }
    return undefined;
  };
  return html`<main class="sign-in"><form class="sign-in-card" onSubmit=${send} novalidate>
    <${Mark} /><h1>${t("signIn")}</h1><p>${t("signInLead")}</p>
    <div class=${error ? "field wrong" : "field"}><label for="key">${t("key")}</label>
      <input id="key" ref=${box} type="password" autocomplete="current-password" spellcheck=${false} placeholder="kin_" aria-invalid=${error ? "true" : undefined}
        aria-describedby=${error ? "key-error key-hint" : "key-hint"} onInput=${() => setError(null)} />
      <div role="alert"><${FieldError} id="key-error" text=${error} /></div>
      <p class="hint" id="key-hint">${t("keyHint")}</p></div>
    <button type="submit" class="primary" aria-disabled=${busy}>${t("signIn")}</button>
  </form></main>`;
}
