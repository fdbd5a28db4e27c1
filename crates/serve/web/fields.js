// Form controls: each has a label, and says next to itself what the server found wrong with it.
import { html, classes, useState } from "./html.js";
import { Icon } from "./icons.js";

export const FieldError = ({ id, text }) => text && html`<p class="field-error" id=${id}><${Icon} name="warning" />${text}</p>`;

/** A label above a control. `name` ties control, label and error together. */
export function Field({ name, label, error, class: extra, children }) {
  return html`<div class=${classes("field", extra, error && "wrong")}>
    <label for=${`field-${name}`}>${label}</label>
    ${children}
    <${FieldError} id=${`field-${name}-error`} text=${error} />
  </div>`;
}

const described = (name, error) => ({ id: `field-${name}`, "aria-invalid": error ? "true" : undefined, "aria-describedby": error ? `field-${name}-error` : undefined });

export const NumberField = ({ name, label, value, error, onChange, placeholder, ...rest }) => html`<${Field} name=${name} label=${label} error=${error}>
  <input type="number" inputmode="decimal" ...${described(name, error)} ...${rest} value=${value} placeholder=${placeholder}
    onInput=${(event) => onChange(event.target.value)} />
</${Field}>`;

/** `options` are pairs of value and text. */
export const SelectField = ({ name, label, value, error, options, onChange }) => html`<${Field} name=${name} label=${label} error=${error}>
  <div class="select"><select ...${described(name, error)} value=${value} onChange=${(event) => onChange(event.target.value)}>
    ${options.map(([key, text]) => html`<option key=${key} value=${key} selected=${key === value}>${text}</option>`)}
  </select><${Icon} name="down" /></div>
</${Field}>`;

/** Radio buttons in one row. `options` are triples of value, text and an optional picture. */
export const Choice = ({ name, label, value, error, options, onChange, hideLabel, class: extra }) => html`<fieldset class=${classes("choice", extra, error && "wrong")}
  aria-describedby=${error ? `field-${name}-error` : undefined}>
  <legend class=${hideLabel ? "hidden" : ""}>${label}</legend>
  <div class="choice-row">${options.map(([key, text, picture]) => html`<label key=${key} class=${key === value ? "on" : ""}>
    <input type="radio" name=${`choice-${name}`} value=${key} checked=${key === value} onChange=${() => onChange(key)} />
    ${picture}<span>${text}</span></label>`)}</div>
  <${FieldError} id=${`field-${name}-error`} text=${error} />
</fieldset>`;

export const Switch = ({ label, checked, onChange }) => html`<label class="switch"><input type="checkbox" role="switch" checked=${checked}
  onChange=${(event) => onChange(event.target.checked, event.target)} /><i aria-hidden="true" /><span>${label}</span></label>`;

/** A part of the form that opens. What is in a `lazy` one is there only while it is open. */
export function Disclosure({ label, note, open, children, id, lazy }) {
  const [shown, setShown] = useState(Boolean(open));
  return html`<details class="disclosure" id=${id} open=${open} onToggle=${(event) => setShown(event.currentTarget.open)}>
    <summary><${Icon} name="right" /><span>${label}</span>${note && html`<small>${note}</small>`}</summary>
    <div class="disclosure-body">${(!lazy || shown || open) && children}</div>
  </details>`;
}
