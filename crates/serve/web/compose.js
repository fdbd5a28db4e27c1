// The form: what the next clip shows and how it is made.
import { html, classes, useEffect, useMemo, useRef, useState } from "./html.js";
import { submit } from "./actions.js";
import { Camera } from "./camera.js";
import { Choice, Disclosure, FieldError, NumberField, SelectField } from "./fields.js";
import { decimal, size } from "./format.js";
import { change, currentModel, form, requestOf, resetSettings, shownTab, TABS, takes } from "./form.js";
import { AspectIcon, Icon, IconButton } from "./icons.js";
import { PlanSummary, usePlan } from "./plan.js";
import { Prompt } from "./prompt.js";
import { Slots } from "./slots.js";
import { Story } from "./story.js";
import { app } from "./store.js";
import { examples, stories, t } from "./texts.js";

const TAB_TEXTS = { text: "tabText", image: "tabImage", frames: "tabFrames", extend: "tabExtend", story: "tabStory", control: "tabControl", restyle: "tabRestyle" };
const ASPECTS = ["16:9", "9:16", "1:1", "4:3", "3:4", "21:9"];

/** Shows a tab. A story without words begins with those of the prompt. */
function choose(tab) {
  const { shots, prompt } = form.get();
  const blank = tab === "story" && shots.every((shot) => !shot.prompt.trim());
  change(blank && prompt.trim() ? { tab, shots: [{ ...shots[0], prompt }, ...shots.slice(1)] } : { tab });
}

/** Tabs in one row; the arrow keys go through them, as in every list of tabs. */
function Tabs({ tab, model }) {
  const row = useRef();
  const [edges, setEdges] = useState("");
  // A row that is wider than its place says so at the edge where there is more.
  const look = () => {
    const { scrollLeft: left, clientWidth: width, scrollWidth: whole } = row.current;
    setEdges(classes(left > 2 && "cut-left", left + width < whole - 2 && "cut-right"));
  };
  useEffect(() => {
    if (!row.current) return undefined;
    const seen = new ResizeObserver(look);
    seen.observe(row.current);
    return () => seen.disconnect();
  }, []);
  useEffect(() => {
    const [box, own] = [row.current, row.current?.querySelector('[aria-selected="true"]')];
    if (own && (own.offsetLeft < box.scrollLeft || own.offsetLeft + own.offsetWidth > box.scrollLeft + box.clientWidth)) box.scrollLeft = own.offsetLeft - (box.clientWidth - own.offsetWidth) / 2;
    if (box) look();
  }, [tab, model.name]);
  const names = Object.keys(TABS).filter((name) => takes(model, name));
  if (names.length < 2) return null;
  const keys = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const ends = { Home: 0, End: names.length - 1 };
    if (!step && !(event.key in ends)) return;
    event.preventDefault();
    const next = step ? (names.indexOf(tab) + step + names.length) % names.length : ends[event.key];
    choose(names[next]);
    row.current.children[next].focus();
  };
  return html`<div class=${classes("tabs", edges)} role="tablist" aria-label=${t("kind")} ref=${row} onKeyDown=${keys} onScroll=${look}>
    ${names.map((name) => html`<button type="button" role="tab" key=${name} id=${`tab-${name}`} aria-selected=${name === tab} aria-controls="panel" tabindex=${name === tab ? 0 : -1}
      onClick=${() => choose(name)}>${t(TAB_TEXTS[name])}</button>`)}
  </div>`;
}

function lengths(model) {
  const own = Math.round(10 * model.seconds) / 10;
  const longest = model.longest_seconds ?? own;
  return [...new Set([own, 3, 5, 10, 30, 60, 180])].filter((n) => n <= longest && n >= Math.min(own, 3) && (n === own || Math.abs(n - own) > 0.3)).sort((a, b) => a - b).slice(0, 5);
}

function Length({ model, value, error }) {
  const own = Math.round(10 * model.seconds) / 10;
  const choices = lengths(model);
  const chosen = value === "" ? String(own) : value;
  const listed = choices.some((n) => String(n) === chosen);
  return html`<div class="length">
    <${Choice} name="seconds" label=${t("seconds")} value=${chosen} error=${error} options=${choices.map((n) => [String(n), t("secondsShort", { n: decimal(n) })])}
      onChange=${(next) => change({ seconds: next === String(own) ? "" : next })} />
    <input class="length-other" type="number" inputmode="decimal" min="0.1" max=${model.longest_seconds ?? undefined} step="any" aria-label=${t("secondsOther")} title=${t("secondsOther")}
      placeholder=${t("other")} value=${listed ? "" : value} onInput=${(event) => change({ seconds: event.target.value })} />
  </div>`;
}

function Shape({ state, model, errors, tab }) {
  const aspects = [["", t("aspectOwn")], ...ASPECTS.map((aspect) => [aspect, aspect, html`<${AspectIcon} aspect=${aspect} />`])];
  const resolutions = [["", size(model.width, model.height)], ...(model.resolutions ?? []).map((name) => [name, name])];
  return html`<div class="shape">
    <${Choice} name="aspect" label=${t("aspect")} class="aspects" value=${state.aspect} error=${errors.aspect} options=${aspects} onChange=${(aspect) => change({ aspect })} />
    ${tab !== "story" && html`<${Length} model=${model} value=${state.seconds} error=${errors.seconds} />`}
    <div class="pair">
      <${SelectField} name="resolution" label=${t("resolution")} value=${state.resolution} error=${errors.resolution} options=${resolutions} onChange=${(resolution) => change({ resolution })} />
      <${Choice} name="mode" label=${t("speed")} value=${state.mode} error=${errors.mode} options=${[["fast", t("fast")], ["", t("standard")], ["quality", t("quality")]]}
        onChange=${(mode) => change({ mode })} />
    </div>
  </div>`;
}

const randomSeed = () => String(crypto.getRandomValues(new Uint32Array(1))[0]);

function Seed({ state, error }) {
  const { seed, seedLocked: locked, lastSeed } = state;
  const toggle = () => change(locked ? { seedLocked: false } : { seedLocked: true, seed: seed || lastSeed || randomSeed() });
  const typed = (event) => {
    const digits = event.target.value.replace(/\D/g, "").slice(0, 20);
    event.target.value = digits; // what is not a digit goes at once, also when the state stays the same
    change({ seed: digits, seedLocked: digits !== "" });
  };
  return html`<div class=${classes("field", "seed", error && "wrong")}>
    <label for="field-seed">${t("seed")}</label>
    <div class="with-button">
      <input id="field-seed" type="text" inputmode="numeric" autocomplete="off" value=${locked ? seed : ""} placeholder=${t("seedRandom")} aria-invalid=${error ? "true" : undefined}
        aria-describedby=${error ? "field-seed-error" : undefined} onInput=${typed} />
      <${IconButton} icon=${locked ? "lock" : "unlock"} label=${t(locked ? "seedUnlock" : "seedLock")} aria-pressed=${locked} class=${locked ? "on" : ""} onClick=${toggle} />
    </div>
    <${FieldError} id="field-seed-error" text=${error} />
  </div>`;
}

function More({ state, model, presets, errors, tab }) {
  const wrong = ["steps", "guidance", "preset", "upscale", "upscaler", "fps", "strength", "seed"].some((name) => errors[name]);
  const none = [["", t("none")]];
  return html`<${Disclosure} label=${t("more")} id="more" open=${wrong ? true : undefined}>
    <div class="grid">
      <${NumberField} name="steps" label=${t("steps")} min="1" max="200" step="1" value=${state.steps} error=${errors.steps} placeholder=${model.steps} onChange=${(steps) => change({ steps })} />
      <${NumberField} name="guidance" label=${t("guidance")} min="0" step="0.1" value=${state.guidance} error=${errors.guidance} placeholder=${model.guidance_scale}
        onChange=${(guidance) => change({ guidance })} />
      <${NumberField} name="fps" label=${t("fps")} min="1" max="120" step="any" value=${state.fps} error=${errors.fps} placeholder=${model.fps} onChange=${(fps) => change({ fps })} />
      <${SelectField} name="upscale" label=${t("upscale")} value=${state.upscale} error=${errors.upscale} options=${[...none, ["720p", "720p"], ["1080p", "1080p"]]}
        onChange=${(upscale) => change({ upscale })} />
      ${state.upscale && html`<${SelectField} name="upscaler" label=${t("upscaler")} value=${state.upscaler} error=${errors.upscaler} options=${[["", t("upscalerLanczos")], ["span", t("upscalerSpan")]]}
        onChange=${(upscaler) => change({ upscaler })} />`}
      ${presets.length > 0 && html`<${SelectField} name="preset" label=${t("preset")} value=${state.preset} error=${errors.preset} options=${[...none, ...presets.map((name) => [name, name])]}
        onChange=${(preset) => change({ preset })} />`}
      ${tab === "restyle" && html`<${NumberField} name="strength" label=${t("strength")} min="0" max="1" step="0.05" value=${state.strength} error=${errors.strength} placeholder="0.8"
        onChange=${(strength) => change({ strength })} />`}
    </div>
    <button type="button" class="small quiet" onClick=${resetSettings}><${Icon} name="reset" />${t("reset")}</button>
  </${Disclosure}>`;
}

const TITLES = { queue_full: "queueFull", insufficient_quota: "noCredits", too_many_clips: "tooMany", storage_quota: "noStorage", storage_full: "noStorage" };

function FormError({ error }) {
  if (!error) return null;
  const title = TITLES[error.code];
  return html`<div class="form-error" role="alert"><${Icon} name="warning" /><div>${title && html`<b>${t(title)}</b>`}<p>${error.message}</p></div>
    <${IconButton} icon="close" label=${t("dismiss")} onClick=${() => form.set({ error: null })} /></div>`;
}

function Count({ count }) {
  return html`<fieldset class="count" title=${t("count")}><legend class="hidden">${t("count")}</legend>
    ${[1, 2, 3, 4].map((n) => html`<label key=${n} class=${n === count ? "on" : ""}><input type="radio" name="choice-count" checked=${n === count} onChange=${() => change({ count: n })} /><span>${`×${n}`}</span></label>`)}
  </fieldset>`;
}

function Editing() {
  return html`<div class="editing" role="status"><${Icon} name="edit" /><span>${t("editing")}</span>
    <button type="button" class="small" onClick=${() => form.set({ editing: null })}>${t("editingStop")}</button></div>`;
}

/** Models that the server offers and cannot use, for whoever runs it. */
const Broken = ({ models }) => html`<ul class="notices broken">${models.map(({ name, problem }) => html`<li key=${name}><${Icon} name="warning" /><span>${t("modelBroken", { name })} ${problem}</span></li>`)}</ul>`;

/** Where the focus goes when a field is wrong or empty. */
function look(name) {
  const ids = { [`${form.get().shots[0].key}-prompt`]: "prompt", seed: "field-seed", negative: "negative" };
  const element = document.getElementById(ids[name] ?? name) ?? document.getElementById(`slot-${name}`) ?? document.getElementById(`field-${name}`) ?? document.querySelector(`input[name="choice-${name}"]:checked`);
  // What takes no focus, such as the camera's panel, comes into sight.
  if (element) element.focus();
  if (element && document.activeElement !== element) element.scrollIntoView({ block: "start" });
}

export function Compose() {
  const state = form.use();
  const models = app.use((all) => all.models);
  const broken = app.use((all) => all.broken);
  const presets = app.use((all) => all.presets);
  const credits = app.use((all) => all.me?.credits);
  const model = currentModel(models, state.model);
  const tab = shownTab(model, state.tab);
  const { request, missing } = useMemo(() => requestOf(state, model), [state, model]);
  // The plan does not depend on the words, so an empty box is planned with the example's.
  const example = examples(model?.name)[0];
  const whole = request.shots ? { ...request, shots: request.shots.map((shot, at) => ({ ...shot, prompt: shot.prompt || (stories(model?.name)[at]?.prompt ?? example) })) } : { ...request, prompt: request.prompt || example };
  const words = (name) => name === "prompt" || name.endsWith("-prompt");
  const plan = usePlan(whole, Boolean(model) && missing.every(words), state.editing ? 1 : state.count);
  const errors = { ...plan.errors, ...Object.fromEntries(Object.entries(state.errors).filter(([, text]) => text)) };
  const send = async (event) => {
    event?.preventDefault();
    const wrong = await submit();
    if (wrong) look(wrong);
  };
  if (!model) return html`<section class="compose" id="compose" aria-busy=${!broken.length}>${broken.length > 0 && html`<div class="compose-body"><${Broken} models=${broken} /></div>`}</section>`;
  const many = !state.editing && state.count > 1;
  return html`<form class="compose" id="compose" aria-labelledby="compose-title" novalidate onSubmit=${send}>
    <h2 id="compose-title" class="hidden">${t("newClip")}</h2>
    <div class="compose-body">
      ${state.editing && html`<${Editing} />`}
      <${Tabs} tab=${tab} model=${model} />
      <div class="panel" id="panel" role="tabpanel" aria-labelledby=${`tab-${tab}`}>
        ${tab === "story"
          ? html`<${Story} state=${state} model=${model} errors=${errors} planned=${plan.answer?.plan.seconds} onSubmit=${send} />`
          : html`<${Slots} tab=${tab} model=${model} /><${Prompt} value=${state.prompt} error=${errors.prompt} model=${model} onSubmit=${send} />`}
      </div>
      <${Disclosure} label=${t("negative")} open=${errors.negative ? true : undefined}>
        <textarea id="negative" rows="2" aria-label=${t("negative")} value=${state.negative} placeholder=${model.negative_prompt} onInput=${(event) => change({ negative: event.target.value })} />
        <p class="hint">${t("negativeHint")}</p>
        <${FieldError} id="negative-error" text=${errors.negative} />
      </${Disclosure}>
      <${SelectField} name="model" label=${t("model")} value=${model.name} error=${errors.model} options=${models.map((one) => [one.name, one.title])} onChange=${(name) => change({ model: name })} />
      ${broken.length > 0 && html`<${Broken} models=${broken} />`}
      <${Shape} state=${state} model=${model} errors=${errors} tab=${tab} />
      <${Seed} state=${state} error=${errors.seed} />
      ${tab !== "story" && html`<${Camera} camera=${state.camera} model=${model} error=${errors.camera} seconds=${plan.answer?.plan.seconds ?? (Number(state.seconds) || model.seconds)} />`}
      <${More} state=${state} model=${model} presets=${presets} errors=${errors} tab=${tab} />
    </div>
    <div class="compose-foot">
      <${FormError} error=${state.error} />
      <${FieldError} id="field-count-error" text=${errors.count} />
      <${PlanSummary} state=${plan} credits=${credits} missing=${!missing.every(words)} onLook=${look} />
      <div class="make">
        ${!state.editing && html`<${Count} count=${state.count} />`}
        <button type="submit" class="primary" aria-disabled=${state.sending}>${t(state.sending ? "making" : state.editing ? "save" : many ? "makeMany" : "make", { n: many ? state.count : 1 })}</button>
      </div>
    </div>
  </form>`;
}
