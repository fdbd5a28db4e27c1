// Deletes what is old.
import { html, useState } from "./html.js";
import { deleteBefore } from "./actions.js";
import { Dialog } from "./dialog.js";
import { NumberField } from "./fields.js";
import { closeDialog } from "./store.js";
import { t } from "./texts.js";

const DAY = 86_400_000;

export function Older({ onDone }) {
  const [days, setDays] = useState("30");
  const [error, setError] = useState(null);
  const send = async (event) => {
    event.preventDefault();
    if (!(Number(days) >= 0) || days === "") return setError(t("olderDaysNeeded"));
    closeDialog();
    await deleteBefore(Date.now() - Number(days) * DAY);
    onDone();
  };
  return html`<${Dialog} label=${t("olderTitle")}>
    <form class="older" noValidate onSubmit=${send}>
      <${NumberField} name="days" label=${t("olderDays")} value=${days} error=${error} min="0" step="any" onChange=${(value) => (setDays(value), setError(null))} />
      <p class="hint">${t("olderText")}</p>
      <div class="dialog-actions">
        <button type="button" onClick=${closeDialog}>${t("keep")}</button>
        <button type="submit" class="danger">${t("delete")}</button>
      </div>
    </form>
  </${Dialog}>`;
}
