// The prompt box, examples for an empty one, and the prompts that were used before.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { change } from "./form.js";
import { FieldError } from "./fields.js";
import { IconButton } from "./icons.js";
import { remember, remembered } from "./store.js";
import { examples, t } from "./texts.js";

/** Closes something when the user presses Escape or goes elsewhere. */
export function useLeave(ref, open, close) {
  useEffect(() => {
    if (!open) return undefined;
    const outside = (event) => !ref.current?.contains(event.target) && close();
    const escape = (event) => {
      if (event.key !== "Escape") return;
      close();
      ref.current?.querySelector("button")?.focus();
    };
    document.addEventListener("pointerdown", outside);
    document.addEventListener("focusin", outside);
    document.addEventListener("keydown", escape);
    return () => {
      document.removeEventListener("pointerdown", outside);
      document.removeEventListener("focusin", outside);
      document.removeEventListener("keydown", escape);
    };
  }, [open]);
}

function History({ choose }) {
  const [open, setOpen] = useState(false);
  const root = useRef();
  useLeave(root, open, () => setOpen(false));
  useEffect(() => {
    if (open) root.current.querySelector(".menu button")?.focus();
  }, [open]);
  const entries = open ? remembered("history", []) : [];
  const keys = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !open) return;
    event.preventDefault();
    const buttons = [...root.current.querySelectorAll(".menu button")];
    buttons[(buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length]?.focus();
  };
  return html`<div class="history" ref=${root} onKeyDown=${keys}>
    <${IconButton} icon="history" label=${t("history")} aria-expanded=${open} aria-controls="history-menu" onClick=${() => setOpen(!open)} />
    ${open && html`<div class="menu popover" id="history-menu" role="group" aria-label=${t("history")}>
      ${entries.length === 0 && html`<p class="hint">${t("historyEmpty")}</p>`}
      ${entries.length > 0 && html`<ul>${entries.map((entry) => html`<li key=${entry}><button type="button" onClick=${() => (setOpen(false), choose(entry))}>${entry}</button></li>`)}</ul>
        <p class="hint">${t("historyHint")}</p>
        <button type="button" class="small quiet" onClick=${() => (remember("history", []), setOpen(false))}>${t("historyClear")}</button>`}
    </div>`}
  </div>`;
}

export function Prompt({ value, error, model, onSubmit }) {
  const box = useRef();
  const walk = useRef(-1); // how far back in the history the arrow keys have gone
  useLayoutEffect(() => {
    // The box grows with its text; `field-sizing` is not in every browser yet.
    box.current.style.height = "auto";
    box.current.style.height = `${box.current.scrollHeight + 2}px`;
  }, [value]);
  const put = (text) => {
    change({ prompt: text });
    box.current.focus();
  };
  const keys = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      return onSubmit();
    }
    const history = remembered("history", []);
    const walking = value === "" || value === history[walk.current];
    if (!walking || event.isComposing || !["ArrowUp", "ArrowDown"].includes(event.key)) return undefined;
    if (value === "") walk.current = -1;
    const next = walk.current + (event.key === "ArrowUp" ? 1 : -1);
    if (next >= history.length || next < -1) return undefined;
    event.preventDefault();
    walk.current = next;
    return change({ prompt: history[next] ?? "" });
  };
  const chips = examples(model?.name);
  return html`<div class=${error ? "prompt wrong" : "prompt"}>
    <div class="prompt-head"><label for="prompt">${t("prompt")}</label><${History} choose=${put} /></div>
    <textarea id="prompt" ref=${box} rows="4" value=${value} placeholder=${chips[0]} spellcheck="true" aria-invalid=${error ? "true" : undefined}
      aria-describedby=${error ? "prompt-error" : undefined} onInput=${(event) => change({ prompt: event.target.value })} onKeyDown=${keys} />
    <${FieldError} id="prompt-error" text=${error} />
    ${value === "" && html`<div class="examples" role="group" aria-label=${t("examples")}>
      ${chips.map((chip) => html`<button type="button" class="chip" key=${chip} title=${chip} onClick=${() => put(chip)}><span>${chip}</span></button>`)}
    </div>`}
  </div>`;
}
