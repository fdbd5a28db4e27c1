// A moving sketch of the way that a camera takes, seen from above on the left, behind where it starts.
import { html, useEffect, useRef } from "./html.js";
import { placeAt } from "./moves.js";

const [WIDTH, HEIGHT] = [232, 160];
const MARGIN = 8;
const MOST_ZOOM = 1.2; // doublings beyond which the pyramid of view stays as long as it is
const MOST_STOPS = 13; // beyond which they would hide the way
const LOOP = 3200; // milliseconds of one move there, with a rest at both ends
const LONGER = 900; // milliseconds for every further move

/** A point of the scene (x right, y up, z ahead) on the sketch. */
function project([x, y, z]) {
  const [c, s] = [Math.cos(0.7), Math.sin(0.7)];
  const [across, depth] = [x * c + z * s, z * c - x * s];
  return [104 + 44 * across, 108 - 44 * (y * 0.9 + depth * 0.4)].map((value) => Math.round(value * 10) / 10);
}

const line = (points, closed) => `M${points.map((point) => project(point).join(" ")).join("L")}${closed ? "Z" : ""}`;
const radians = (degrees) => (degrees * Math.PI) / 180;
const spot = ({ horizontal, vertical, forward }) => [horizontal, 0.6 + vertical, forward];

/** The camera at a place, as a pyramid of view: its corners, and a mark at its upper edge. */
function pyramid(place) {
  const at = spot(place);
  const far = 1.15 * 2 ** Math.min(MOST_ZOOM, Math.max(-MOST_ZOOM, place.zoom));
  const [w, h] = [0.78, 0.44];
  const [pan, tilt, roll] = [place.pan, place.tilt, place.roll].map(radians);
  const turn = ([x, y, z]) => {
    [x, y] = [x * Math.cos(roll) + y * Math.sin(roll), -x * Math.sin(roll) + y * Math.cos(roll)];
    [y, z] = [y * Math.cos(tilt) + z * Math.sin(tilt), -y * Math.sin(tilt) + z * Math.cos(tilt)];
    [x, z] = [x * Math.cos(pan) + z * Math.sin(pan), -x * Math.sin(pan) + z * Math.cos(pan)];
    return [at[0] + x, at[1] + y, at[2] + z];
  };
  const corners = [[-w, h, far], [w, h, far], [w, -h, far], [-w, -h, far]].map(turn);
  return { at, corners, up: [[-0.16, h + 0.06, far], [0, h + 0.24, far], [0.16, h + 0.06, far]].map(turn) };
}

function drawn(place) {
  const { at, corners, up } = pyramid(place);
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

/** The part of the plane that shows everything: the usual one, or a larger one of the same shape for a camera that goes far. */
function frame(stops) {
  const points = stops.flatMap(({ place }) => {
    const { at, corners, up } = pyramid(place);
    return [at, ...corners, ...up].map(project);
  });
  const [left, top] = [0, 1].map((axis) => Math.min(0, ...points.map((point) => point[axis] - MARGIN)));
  const [right, bottom] = [WIDTH, HEIGHT].map((edge, axis) => Math.max(edge, ...points.map((point) => point[axis] + MARGIN)));
  const scale = Math.max((right - left) / WIDTH, (bottom - top) / HEIGHT);
  const [width, height] = [WIDTH * scale, HEIGHT * scale];
  return [(left + right - width) / 2, (top + bottom - height) / 2, width, height].map((value) => Math.round(value));
}

/** Goes there and starts again, with slow ends. */
function shareAt(time, loop) {
  const raw = Math.min(1, Math.max(0, ((time % loop) / loop) * 1.5 - 0.2));
  return raw * raw * (3 - 2 * raw);
}

/** `stops` are places in the course of the clip; `chosen` is the number of the move that is drawn stronger. */
export function Sketch({ stops, label, chosen = null }) {
  const parts = { view: useRef(), rays: useRef(), up: useRef(), dot: useRef() };
  const first = stops[0].place;
  const moving = stops.some(({ place }) => Object.keys(first).some((name) => place[name] !== first[name]));
  const key = JSON.stringify(stops);
  useEffect(() => {
    const draw = (share) => {
      const now = drawn(placeAt(stops, share));
      for (const name of ["view", "rays", "up"]) parts[name].current.setAttribute("d", now[name]);
      const [x, y] = project(now.at);
      parts.dot.current.setAttribute("cx", x);
      parts.dot.current.setAttribute("cy", y);
    };
    if (!moving || matchMedia("(prefers-reduced-motion: reduce)").matches) return draw(moving ? 1 : 0);
    const loop = LOOP + LONGER * (stops.length - 2);
    const begin = performance.now();
    let request = requestAnimationFrame(function step(now) {
      draw(shareAt(Math.max(0, now - begin), loop));
      request = requestAnimationFrame(step);
    });
    return () => cancelAnimationFrame(request);
  }, [key]);
  const [begin, end] = [drawn(first), drawn(stops.at(-1).place)];
  const spots = stops.map(({ place }) => spot(place));
  const strong = chosen !== null && spots[chosen + 1] ? [spots[chosen], spots[chosen + 1]] : null;
  return html`<svg class="sketch" viewBox=${frame(stops).join(" ")} role="img" aria-label=${label}>
    <path class="sketch-floor" d=${FLOOR} /><path class="sketch-subject" d=${SUBJECT} />
    <path class="sketch-ghost" d=${begin.view + begin.rays} />
    ${moving && html`<path class="sketch-ghost" d=${end.view} /><path class="sketch-way" d=${line(spots)} />`}
    ${strong && html`<path class="sketch-chosen" d=${line(strong)} />`}
    ${moving && stops.length > 2 && stops.length <= MOST_STOPS && spots.map((at, n) => html`<circle key=${n} class="sketch-stop" cx=${project(at)[0]} cy=${project(at)[1]} r="2.6" />`)}
    <path class="sketch-rays" ref=${parts.rays} /><path class="sketch-view" ref=${parts.view} /><path class="sketch-up" ref=${parts.up} />
    <circle class="sketch-dot" ref=${parts.dot} r="3.2" /></svg>`;
}
