// Dialogs: the browser's own element keeps the focus inside, makes the page behind inert and closes with Escape.
import { html, classes, useEffect, useRef } from "./html.js";
import { IconButton } from "./icons.js";
import { closeDialog, openDialog } from "./store.js";
import { t } from "./texts.js";

export function Dialog({ label, wide, children, onClose = closeDialog, onKeyDown, head }) {
  const dialog = useRef();
  useEffect(() => {
    const [own, before] = [dialog.current, document.activeElement];
    own.showModal();
    return () => {
      own.close(); // until then everything behind it is inert and takes no focus
      if (before?.isConnected) before.focus({ preventScroll: true });
    };
  }, []);
  const cancel = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${dialog} class=${classes("dialog", wide && "wide")} aria-label=${label} onCancel=${cancel} onKeyDown=${onKeyDown}
    onClick=${(event) => event.target === dialog.current && onClose()}>
    <div class="dialog-inner">
      <header class="dialog-head"><h2>${label}</h2>${head}<${IconButton} icon="close" label=${t("close")} onClick=${onClose} /></header>
      ${children}
    </div>
  </dialog>`;
}

/** A question with two answers; the harmless one has the focus. */
export function Confirm({ title, text, action, keep, danger, onConfirm, back }) {
  const yes = () => {
    closeDialog();
    onConfirm();
  };
  const no = () => (back ? openDialog(back) : closeDialog());
  const harmless = useRef();
  useEffect(() => harmless.current.focus(), []);
  return html`<${Dialog} label=${title} onClose=${no}>
    <p>${text}</p>
    <div class="dialog-actions">
      <button type="button" ref=${harmless} onClick=${no}>${keep}</button>
      <button type="button" class=${danger ? "danger" : "primary"} onClick=${yes}>${action}</button>
    </div>
  </${Dialog}>`;
}
