// The camera: six axes, four presets, and a moving sketch of the way that the camera takes.
import { html, classes, useEffect, useRef } from "./html.js";
import { AXES, CAMERA_PRESETS, cameraText, change } from "./form.js";
import { Disclosure, FieldError } from "./fields.js";
import { Icon } from "./icons.js";
import { t } from "./texts.js";

/** How far 10 goes in 5 seconds, as `docs/camera.md` says: scene units, degrees, doublings of the focal length. */
const TRAVEL = 1.5;
const TURN = Math.PI / 3;
const PRESETS = {
  "down-back": { up: -TRAVEL / 2, forward: -TRAVEL },
  "forward-up": { forward: TRAVEL, tilt: TURN / 2 },
  "left-turn-forward": { forward: TRAVEL, pan: -TURN / 2 },
  "right-turn-forward": { forward: TRAVEL, pan: TURN / 2 },
};

/** Where the camera has come to in 5 seconds. */
function motionOf({ preset, axes }) {
  const none = { right: 0, up: 0, forward: 0, pan: 0, tilt: 0, roll: 0, octaves: 0 };
  if (preset) return { ...none, ...PRESETS[preset] };
  const { horizontal, vertical, pan, tilt, roll, zoom } = axes;
  return { ...none, right: (horizontal / 10) * TRAVEL, up: (vertical / 10) * TRAVEL, pan: (pan / 10) * TURN, tilt: (tilt / 10) * TURN, roll: (roll / 10) * TURN, octaves: zoom / 10 };
}

/** A point of the scene (x right, y up, z ahead) on the sketch, seen from above on the left, behind the camera. */
function project([x, y, z]) {
  const [c, s] = [Math.cos(0.7), Math.sin(0.7)];
  const [across, depth] = [x * c + z * s, z * c - x * s];
  return [104 + 44 * across, 108 - 44 * (y * 0.9 + depth * 0.4)].map((value) => Math.round(value * 10) / 10);
}

const line = (points, closed) => `M${points.map((point) => project(point).join(" ")).join("L")}${closed ? "Z" : ""}`;

/** The camera as a pyramid of view at a share (0 to 1) of its way. */
function frustum(motion, share) {
  const at = [motion.right * share, 0.7 + motion.up * share, -0.9 + motion.forward * share];
  const far = 1.15 * 2 ** (motion.octaves * share);
  const [w, h] = [0.78, 0.44];
  const turn = ([x, y, z]) => {
    const [pan, tilt, roll] = [motion.pan * share, motion.tilt * share, motion.roll * share];
    [x, y] = [x * Math.cos(roll) + y * Math.sin(roll), -x * Math.sin(roll) + y * Math.cos(roll)];
    [y, z] = [y * Math.cos(tilt) + z * Math.sin(tilt), -y * Math.sin(tilt) + z * Math.cos(tilt)];
    [x, z] = [x * Math.cos(pan) + z * Math.sin(pan), -x * Math.sin(pan) + z * Math.cos(pan)];
    return [at[0] + x, at[1] + y, at[2] + z];
  };
  const corners = [[-w, h, far], [w, h, far], [w, -h, far], [-w, -h, far]].map(turn);
  const up = [[-0.16, h + 0.06, far], [0, h + 0.24, far], [0.16, h + 0.06, far]].map(turn);
  return { at, view: line(corners, true), rays: corners.map((corner) => line([at, corner])).join(""), up: line(up, true) };
}

function floor() {
  const lines = [];
  for (let at = -2; at <= 2; at += 1) lines.push(line([[at, 0, -1.5], [at, 0, 2.5]]), line([[-2, 0, at + 0.5], [2, 0, at + 0.5]]));
  return lines.join("");
}

function subject() {
  const [r, y] = [0.32, 0.95];
  const base = [[-r, 0, 1.6 - r], [r, 0, 1.6 - r], [r, 0, 1.6 + r], [-r, 0, 1.6 + r]];
  return base.map((corner) => line([corner, [0, y, 1.6]])).join("") + line(base, true);
}

const FLOOR = floor();
const SUBJECT = subject();
const LOOP = 3200; // milliseconds there, with a rest at both ends

/** Moves there and starts again, with slow ends. */
function shareAt(time) {
  const raw = Math.min(1, Math.max(0, ((time % LOOP) / LOOP) * 1.5 - 0.2));
  return raw * raw * (3 - 2 * raw);
}

export function Sketch({ camera }) {
  const parts = { view: useRef(), rays: useRef(), up: useRef(), dot: useRef() };
  const motion = motionOf(camera);
  const moving = Object.values(motion).some(Boolean);
  useEffect(() => {
    const draw = (share) => {
      const now = frustum(motion, share);
      for (const name of ["view", "rays", "up"]) parts[name].current.setAttribute("d", now[name]);
      const [x, y] = project(now.at);
      parts.dot.current.setAttribute("cx", x);
      parts.dot.current.setAttribute("cy", y);
    };
    if (!moving || matchMedia("(prefers-reduced-motion: reduce)").matches) return draw(moving ? 1 : 0);
    const begin = performance.now();
    let frame = requestAnimationFrame(function step(now) {
      draw(shareAt(now - begin));
      frame = requestAnimationFrame(step);
    });
    return () => cancelAnimationFrame(frame);
  }, [cameraText(camera)]);
  const [begin, end] = [frustum(motion, 0), frustum(motion, 1)];
  return html`<svg class="sketch" viewBox="0 0 232 160" role="img" aria-label=${t("cameraSketch", { move: describe(camera) })}>
    <path class="sketch-floor" d=${FLOOR} /><path class="sketch-subject" d=${SUBJECT} />
    <path class="sketch-ghost" d=${begin.view + begin.rays} />
    ${moving && html`<path class="sketch-ghost" d=${end.view} /><path class="sketch-way" d=${line([begin.at, end.at])} />`}
    <path class="sketch-rays" ref=${parts.rays} /><path class="sketch-view" ref=${parts.view} /><path class="sketch-up" ref=${parts.up} />
    <circle class="sketch-dot" ref=${parts.dot} r="3.2" /></svg>`;
}

/** The move in words, for the closed panel and for screen readers. */
export function describe({ preset, axes }) {
  if (preset) return t(preset);
  const moving = AXES.filter((axis) => axes[axis]);
  return moving.length ? moving.map((axis) => `${t(axis)} ${axes[axis] > 0 ? "+" : "−"}${Math.abs(axes[axis])}`).join(", ") : t("cameraStill");
}

export function Camera({ camera, model, error }) {
  const moving = cameraText(camera) !== "";
  const setAxis = (axis, value) => change({ camera: { preset: "", axes: { ...camera.axes, [axis]: value } } });
  const still = () => change({ camera: { preset: "", axes: Object.fromEntries(AXES.map((axis) => [axis, 0])) } });
  const choose = (preset) => change({ camera: { ...camera, preset: camera.preset === preset ? "" : preset, axes: Object.fromEntries(AXES.map((axis) => [axis, 0])) } });
  return html`<${Disclosure} id="camera" label=${t("camera")} note=${describe(camera)} open=${error ? true : undefined}>
    <div class="camera-top">
      <${Sketch} camera=${camera} />
      <div class="camera-presets" role="group" aria-label=${t("preset")}>
        ${CAMERA_PRESETS.map((preset) => html`<button type="button" key=${preset} class=${classes("small", camera.preset === preset && "on")}
          aria-pressed=${camera.preset === preset} onClick=${() => choose(preset)}>${t(preset)}</button>`)}
        <button type="button" class="small quiet" disabled=${!moving} onClick=${still}><${Icon} name="reset" />${t("cameraReset")}</button>
      </div>
    </div>
    <div class="axes">${AXES.map((axis) => html`<div class="axis" key=${axis}>
      <label for=${`axis-${axis}`}>${t(axis)}</label>
      <input id=${`axis-${axis}`} type="range" min="-10" max="10" step="1" value=${camera.axes[axis]} onInput=${(event) => setAxis(axis, Number(event.target.value))} />
      <output for=${`axis-${axis}`}>${camera.axes[axis] > 0 ? "+" : ""}${String(camera.axes[axis]).replace("-", "−")}</output>
    </div>`)}</div>
    ${!model?.takes.includes("camera") && html`<p class="hint">${t("cameraWords")}</p>`}
    <${FieldError} id="field-camera-error" text=${error} />
  </${Disclosure}>`;
}
