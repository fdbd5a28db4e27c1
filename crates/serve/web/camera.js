// The camera: one move by six axes or four presets, or a path of several, with a moving sketch of the way that it takes.
import { html, classes } from "./html.js";
import { change } from "./form.js";
import { Choice, Disclosure, FieldError } from "./fields.js";
import { Icon } from "./icons.js";
import { AXES, CAMERA_PRESETS, cameraText, firstMoves, onPath, stillCamera, stopsOf } from "./moves.js";
import { Path } from "./path.js";
import { Sketch } from "./sketch.js";
import { t } from "./texts.js";

export const signed = (value, digits = 2) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Number(Math.abs(value).toFixed(digits))}`;

/** The camera in words, for the closed panel and for screen readers. */
export function describe({ kind, preset, axes, moves, poses }) {
  if (kind === "path") return poses ? t("cameraPoses", { n: poses.length }) : t("cameraPathNote", { n: moves.length });
  if (preset) return t(preset);
  const moving = AXES.filter((axis) => axes[axis]);
  return moving.length ? moving.map((axis) => `${t(axis)} ${signed(axes[axis])}`).join(", ") : t("cameraStill");
}

/** One move. `id` tells the sliders of several editors apart. */
export function Move({ id, camera, onChange }) {
  const moving = cameraText(camera) !== "";
  const still = stillCamera().axes;
  const setAxis = (axis, value) => onChange({ ...camera, preset: "", axes: { ...camera.axes, [axis]: value } });
  const choose = (preset) => onChange({ ...camera, preset: camera.preset === preset ? "" : preset, axes: still });
  return html`<div class="camera-top">
      <${Sketch} stops=${stopsOf(camera)} label=${t("cameraSketch", { move: describe(camera) })} />
      <div class="camera-presets" role="group" aria-label=${t("preset")}>
        ${CAMERA_PRESETS.map((preset) => html`<button type="button" key=${preset} class=${classes("small", camera.preset === preset && "on")}
          aria-pressed=${camera.preset === preset} onClick=${() => choose(preset)}>${t(preset)}</button>`)}
        <button type="button" class="small quiet" disabled=${!moving} onClick=${() => onChange({ ...camera, preset: "", axes: still })}><${Icon} name="reset" />${t("cameraReset")}</button>
      </div>
    </div>
    <div class="axes">${AXES.map((axis) => html`<div class="axis" key=${axis}>
      <label for=${`${id}-${axis}`}>${t(axis)}</label>
      <input id=${`${id}-${axis}`} type="range" min="-10" max="10" step="1" value=${camera.axes[axis]} onInput=${(event) => setAxis(axis, Number(event.target.value))} />
      <output for=${`${id}-${axis}`}>${signed(camera.axes[axis])}</output>
    </div>`)}</div>`;
}

export function Camera({ camera, model, error, seconds }) {
  const set = (next) => change({ camera: next });
  const able = Boolean(model?.takes.includes("camera"));
  const path = onPath(camera, model);
  const shown = path ? camera : { ...camera, kind: "move" };
  const choose = (kind) => set({ ...camera, kind, moves: camera.moves.length ? camera.moves : firstMoves() });
  return html`<${Disclosure} id="camera" label=${t("camera")} note=${describe(shown)} open=${error ? true : undefined} lazy>
    ${able && html`<${Choice} name="camera-kind" label=${t("cameraKind")} hideLabel value=${shown.kind} options=${[["move", t("cameraOne")], ["path", t("cameraPath")]]} onChange=${choose} />`}
    <${FieldError} id="field-camera-error" text=${error} />
    ${path ? html`<${Path} camera=${camera} seconds=${seconds} onChange=${set} />` : html`<${Move} id="axis" camera=${shown} onChange=${set} />`}
    ${!able && html`<p class="hint">${t("cameraWords")}</p>`}
  </${Disclosure}>`;
}
