// A path of the camera: moves one after another, each for a part of the clip's time.
import { html, classes, useRef, useState } from "./html.js";
import { decimal } from "./format.js";
import { IconButton } from "./icons.js";
import { firstMoves, isStill, MOST_MOVES, MOST_SHARES, newMove, PARTS, stopsOf } from "./moves.js";
import { Sketch } from "./sketch.js";
import { say } from "./store.js";
import { t } from "./texts.js";

/** The sliders: how far they go, their step, and what a value reads. */
const SLIDERS = {
  horizontal: [3, 0.25], vertical: [3, 0.25], forward: [6, 0.25], pan: [120, 5], tilt: [60, 5], roll: [90, 5], zoom: [2, 0.25],
};
const DEGREES = ["pan", "tilt", "roll"];
/** What one press makes of a move. */
const QUICK = {
  goForward: { forward: 1.5 }, goBack: { forward: -1.5 }, goLeft: { horizontal: -1.5 }, goRight: { horizontal: 1.5 }, goUp: { vertical: 1 }, goDown: { vertical: -1 },
  turnLeft: { pan: -30 }, turnRight: { pan: 30 }, zoomIn: { zoom: 1 }, zoomOut: { zoom: -1 }, hold: {},
};
/** The names of a part's two directions, and how much of it counts as much as the others. */
const NAMES = {
  horizontal: ["goRight", "goLeft", 1.5], vertical: ["goUp", "goDown", 1.5], forward: ["goForward", "goBack", 1.5], pan: ["turnRight", "turnLeft", 30],
  tilt: ["tiltUp", "tiltDown", 30], roll: ["rollRight", "rollLeft", 30], zoom: ["zoomIn", "zoomOut", 1],
};

const sign = (value) => (value > 0 ? "+" : value < 0 ? "−" : "");

function reading(part, value) {
  if (part === "zoom") return `×${decimal(2 ** value, 2)}`;
  return `${sign(value)}${decimal(Math.abs(value), 2)}${DEGREES.includes(part) ? "°" : ""}`;
}

/** The parts of a move that are not 0, the largest first. */
const moving = (move) => PARTS.filter((part) => move[part]).sort((a, b) => Math.abs(move[b] / NAMES[b][2]) - Math.abs(move[a] / NAMES[a][2]));
const nameOf = (move, part) => t(NAMES[part][move[part] > 0 ? 0 : 1]);

/** One or two words for what a move does most. */
const shortName = (move) => (isStill(move) ? t("hold") : nameOf(move, moving(move)[0]));
const longName = (move) => (isStill(move) ? t("hold") : moving(move).map((part) => `${nameOf(move, part)} ${reading(part, Math.abs(move[part]))}`).join(", "));
const same = (move, parts) => PARTS.every((part) => move[part] === (parts[part] ?? 0));

/** The moves as a band of time: tabs, of which the arrow keys choose one, and move it with Alt. */
function Band({ moves, chosen, seconds, choose, move, remove, add }) {
  const row = useRef();
  const total = moves.reduce((sum, one) => sum + one.share, 0);
  const ends = moves.map((_, at) => (moves.slice(0, at + 1).reduce((sum, one) => sum + one.share, 0) / total) * seconds);
  const keys = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const edges = { Home: 0, End: moves.length - 1 };
    if (event.key === "Delete") remove();
    else if (step && event.altKey) move(step);
    else if (step) choose((chosen + step + moves.length) % moves.length);
    else if (event.key in edges) choose(edges[event.key]);
    else return;
    event.preventDefault();
    requestAnimationFrame(() => row.current?.querySelector('[aria-selected="true"]')?.focus());
  };
  const label = (one, at) => `${t("pathMove", { n: at + 1, of: moves.length })}: ${longName(one)}, ${t("secondsShort", { n: decimal((one.share / total) * seconds) })}`;
  return html`<div class="band">
    <div class="band-row">
      <div class="band-parts" role="tablist" aria-label=${t("cameraPath")} ref=${row} onKeyDown=${keys}>
        ${moves.map((one, at) => html`<button type="button" role="tab" key=${at} style=${{ flexGrow: one.share }} aria-selected=${at === chosen} aria-controls="path-move" tabindex=${at === chosen ? 0 : -1}
          aria-label=${label(one, at)} title=${longName(one)} onClick=${() => choose(at)}><span>${shortName(one)}</span></button>`)}
      </div>
      <${IconButton} icon="plus" class="band-add" label=${t("pathAdd")} disabled=${moves.length >= MOST_MOVES} onClick=${add} />
    </div>
    <div class="band-times" aria-hidden="true"><i style=${{ left: 0 }}>${t("secondsShort", { n: 0 })}</i>
      ${ends.map((end, at) => html`<i key=${at} style=${{ left: `${(100 * end) / seconds}%` }}>${decimal(end)}</i>`)}</div>
  </div>`;
}

function Sliders({ move, total, seconds, set }) {
  const row = (part, label, value, text, range) => html`<div class="axis" key=${part}>
    <label for=${`path-${part}`}>${label}</label>
    <input id=${`path-${part}`} type="range" ...${range} value=${value} aria-valuetext=${text} onInput=${(event) => set({ [part]: Number(event.target.value) })} />
    <output for=${`path-${part}`}>${text}</output></div>`;
  return html`<div class="axes path-axes">
    ${row("share", t("pathShare"), move.share, t("secondsShort", { n: decimal((move.share / total) * seconds) }), { min: 1, max: MOST_SHARES, step: 1, class: "from-left" })}
    ${PARTS.map((part) => {
      const [most, step] = SLIDERS[part];
      return row(part, t(part), move[part], reading(part, move[part]), { min: -most, max: most, step });
    })}
  </div>`;
}

/** A path that came with a request and is no path of a few moves: it is kept as it is. */
function Given({ camera, onChange }) {
  return html`<div class="path-top"><${Sketch} stops=${stopsOf(camera)} label=${t("cameraSketch", { move: t("cameraPoses", { n: camera.poses.length }) })} /></div>
    <p class="hint">${t("pathGiven", { n: camera.poses.length })}</p>
    <button type="button" class="small" onClick=${() => onChange({ ...camera, poses: null, moves: firstMoves() })}>${t("pathNew")}</button>`;
}

export function Path({ camera, seconds, onChange }) {
  const [place, setPlace] = useState(0);
  if (camera.poses) return html`<${Given} camera=${camera} onChange=${onChange} />`;
  const { moves } = camera;
  const chosen = Math.min(place, moves.length - 1);
  const move = moves[chosen];
  const total = moves.reduce((sum, one) => sum + one.share, 0);
  const put = (next) => onChange({ ...camera, moves: next });
  const set = (parts) => put(moves.map((one, at) => (at === chosen ? { ...one, ...parts } : one)));
  const shift = (step) => {
    const to = chosen + step;
    if (!moves[to]) return;
    put(moves.map((one, at) => (at === to ? move : at === chosen ? moves[to] : one)));
    setPlace(to);
    say(t("pathMove", { n: to + 1, of: moves.length }));
  };
  const add = () => {
    put(moves.toSpliced(chosen + 1, 0, newMove()));
    setPlace(chosen + 1);
    say(t("pathMove", { n: chosen + 2, of: moves.length + 1 }));
  };
  const remove = () => {
    if (moves.length < 2) return;
    put(moves.toSpliced(chosen, 1));
    setPlace(Math.max(0, chosen - 1));
    say(t("pathRemoved", { n: moves.length - 1 }));
  };
  const words = moves.map(longName).join("; ");
  return html`<div class="path-top"><${Sketch} stops=${stopsOf(camera)} label=${t("cameraSketch", { move: words })} chosen=${chosen} /></div>
    <${Band} moves=${moves} chosen=${chosen} seconds=${seconds} choose=${setPlace} move=${shift} remove=${remove} add=${add} />
    <div class="path-move" id="path-move" role="tabpanel" aria-label=${t("pathMove", { n: chosen + 1, of: moves.length })}>
      <div class="path-head"><b>${t("pathMove", { n: chosen + 1, of: moves.length })}</b>
        <${IconButton} icon="left" label=${t("pathEarlier")} aria-disabled=${chosen === 0} onClick=${() => shift(-1)} />
        <${IconButton} icon="right" label=${t("pathLater")} aria-disabled=${chosen === moves.length - 1} onClick=${() => shift(1)} />
        <${IconButton} icon="close" label=${t("pathRemove")} aria-disabled=${moves.length < 2} onClick=${remove} /></div>
      <div class="quick" role="group" aria-label=${t("pathQuick")}>${Object.entries(QUICK).map(([name, parts]) => html`<button type="button" key=${name} class=${classes("small", same(move, parts) && "on")}
        aria-pressed=${same(move, parts)} onClick=${() => set(newMove({ ...parts, share: move.share }))}>${t(name)}</button>`)}</div>
      <${Sliders} move=${move} total=${total} seconds=${seconds} set=${set} />
    </div>`;
}
