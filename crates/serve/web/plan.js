// What a clip will be and take, asked of the server while the form changes.
import { html, useEffect, useState } from "./html.js";
import * as api from "./api.js";
import { bytes, decimal, size, span } from "./format.js";
import { placeOf } from "./form.js";
import { Icon } from "./icons.js";
import { t } from "./texts.js";

const PAUSE = 300; // milliseconds without a change before the server is asked

/** Asks for the plan of a request. Returns the last answer, what is wrong with which field, and whether a newer one is on its way. */
export function usePlan(request, ready, count) {
  const [state, setState] = useState({ answer: null, errors: {}, error: null, busy: false });
  const body = ready ? JSON.stringify(request) : null;
  useEffect(() => {
    if (!body) return setState({ answer: null, errors: {}, error: null, busy: false });
    setState((now) => ({ ...now, busy: true }));
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      try {
        setState({ answer: await api.post("plan", JSON.parse(body), { signal: stop.signal }), errors: {}, error: null, busy: false });
      } catch (error) {
        if (error.name === "AbortError") return;
        const field = placeOf(error);
        // Credits, limits and a server that is away are said when the button is pressed.
        const own = error.status === 400 || error.status === 422;
        setState({ answer: null, errors: own && field ? { [field]: error.message } : {}, error: own && !field ? error.message : null, busy: false });
      }
    }, PAUSE);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [body]);
  return { ...state, count };
}

const Facts = ({ parts }) => html`<ul class="facts">${parts.filter(Boolean).map((part) => html`<li>${part}</li>`)}</ul>`;

/** The summary above the button. Its height is kept while a new plan comes, so that the button stays where it is. */
export function PlanSummary({ state, credits, missing, onLook }) {
  const { answer, busy, error, errors, count } = state;
  const [wrong] = Object.keys(errors);
  if (wrong) return html`<div class="plan"><button type="button" class="plan-wrong" onClick=${() => onLook(wrong)}><${Icon} name="warning" /><span>${errors[wrong]}</span></button></div>`;
  if (error) return html`<div class="plan"><p class="field-error"><${Icon} name="warning" />${error}</p></div>`;
  if (!answer) return html`<div class="plan" aria-busy=${busy}>${(busy || missing) && html`<p class="hint">${t(missing ? "planMissing" : "planning")}</p>`}</div>`;
  const { plan, cost, seconds, wait } = answer;
  const total = cost * count;
  return html`<div class="plan" aria-busy=${busy} data-plan>
    <${Facts} parts=${[size(plan.width, plan.height), t("planFrames", { n: plan.frames }), t("secondsShort", { n: decimal(plan.frames / plan.fps) }), t("planSteps", { n: plan.steps }), plan.windows > 1 && t("planWindows", { n: plan.windows })]} />
    <${Facts} parts=${[
      html`<b>${seconds === null || seconds === undefined ? t("planUnknown") : t("planTime", { time: span(seconds * count) })}</b>`,
      wait > 1 && t("planWait", { time: span(wait) }),
      t("planMemory", { size: bytes(plan.memory) }),
      credits && html`<span class=${total > credits.left ? "too-much" : ""}>${t("planCost", { n: total })}</span>`,
    ]} />
    ${plan.notices?.length > 0 && html`<ul class="notices" tabindex=${plan.notices.length > 2 ? 0 : undefined}>${plan.notices.map((notice) => html`<li><${Icon} name="info" />${notice}</li>`)}</ul>`}
  </div>`;
}
