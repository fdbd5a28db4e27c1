// The camera's moves: a single one, along axes or by a preset, or a path of several in time; and the way between them and requests.

export const AXES = ["horizontal", "vertical", "pan", "tilt", "roll", "zoom"];
export const CAMERA_PRESETS = ["down-back", "forward-up", "left-turn-forward", "right-turn-forward"];
/** What a move of a path changes: scene units, degrees, and doublings of the focal length. */
export const PARTS = ["horizontal", "vertical", "forward", "pan", "tilt", "roll", "zoom"];
export const MOST_MOVES = 12;
export const MOST_SHARES = 8;

/** How far 10 goes in 5 seconds, as `docs/camera.md` says. */
const TRAVEL = 1.5;
const TURN = 60;
const PRESETS = {
  "down-back": { vertical: -TRAVEL / 2, forward: -TRAVEL },
  "forward-up": { forward: TRAVEL, tilt: TURN / 2 },
  "left-turn-forward": { forward: TRAVEL, pan: -TURN / 2 },
  "right-turn-forward": { forward: TRAVEL, pan: TURN / 2 },
};
const SCALES = { horizontal: TRAVEL, vertical: TRAVEL, pan: TURN, tilt: TURN, roll: TURN, zoom: 1 };

const zeros = (names) => Object.fromEntries(names.map((name) => [name, 0]));
const round = (value) => Math.round(value * 1e4) / 1e4;

/** A move of a path. It takes `share` parts of the clip's time. */
export const newMove = (parts = {}) => ({ share: 1, ...zeros(PARTS), ...parts });

/** A camera that holds still. `kind` is `move` or `path`; `poses` is a path that cannot be shown as moves, as it was sent. */
export const stillCamera = () => ({ kind: "move", preset: "", axes: zeros(AXES), moves: [], poses: null });

/** What a path begins with, so that there is something to see and to change. */
export const firstMoves = () => [newMove({ forward: TRAVEL }), newMove({ pan: TURN / 2 })];

export const isStill = (move) => PARTS.every((name) => !move[name]);

export function cameraText({ preset, axes }) {
  if (preset) return preset;
  return AXES.filter((axis) => axes[axis]).map((axis) => `${axis}=${axes[axis]}`).join(",");
}

export function cameraOf(text) {
  const camera = stillCamera();
  if (!text) return camera;
  if (!text.includes("=")) return { ...camera, preset: text };
  for (const part of text.split(",")) {
    const [axis, value] = part.split("=");
    if (AXES.includes(axis?.trim()) && Number.isFinite(Number(value))) camera.axes[axis.trim()] = Number(value);
  }
  return camera;
}

const poseOf = (place) => {
  const pose = Object.fromEntries(PARTS.filter((name) => name !== "zoom" && round(place[name])).map((name) => [name, round(place[name])]));
  if (round(place.zoom)) pose.zoom = Math.round(2 ** place.zoom * 1e6) / 1e6;
  return pose;
};

const placeOf = (pose) => ({ ...zeros(PARTS), ...pose, zoom: Math.log2(pose.zoom ?? 1) });

/** The poses of a path, evenly spaced: a move that takes longer has several. */
export function pathOf(moves) {
  const poses = [{}];
  let place = zeros(PARTS);
  for (const move of moves) {
    const begin = place;
    for (let part = 1; part <= move.share; part += 1) {
      place = Object.fromEntries(PARTS.map((name) => [name, begin[name] + (move[name] * part) / move.share]));
      poses.push(poseOf(place));
    }
  }
  return poses;
}

const ALIKE = 2e-3; // poses are rounded

/** The moves between poses; `null` if there are too many to be shown, or if they do not begin where a path of moves does. */
export function movesOf(poses) {
  const places = poses.map(placeOf);
  if (places.length < 2 || !isStill(places[0])) return null;
  const moves = [];
  places.slice(1).forEach((place, at) => {
    const step = Object.fromEntries(PARTS.map((name) => [name, place[name] - places[at][name]]));
    const last = moves.at(-1);
    if (last && last.share < MOST_SHARES && PARTS.every((name) => Math.abs(step[name] - last.step[name]) < ALIKE)) last.share += 1;
    else moves.push({ share: 1, step, begin: places[at] });
    moves.at(-1).end = place;
  });
  if (moves.length > MOST_MOVES) return null;
  return moves.map(({ share, begin, end }) => newMove({ share, ...Object.fromEntries(PARTS.map((name) => [name, Math.round((end[name] - begin[name]) * 1e3) / 1e3])) }));
}

/** Whether the camera goes along a path, with a model that can be told one. */
export const onPath = (camera, model) => camera.kind === "path" && Boolean(model?.takes?.includes("camera"));

/** The fields of a request. */
export function cameraFields(camera, model) {
  if (!onPath(camera, model)) return { camera: cameraText(camera) || undefined };
  if (camera.poses) return { camera_path: camera.poses };
  return { camera_path: camera.moves.every(isStill) ? undefined : pathOf(camera.moves) };
}

/** The camera of a request. */
export function cameraFrom({ camera, camera_path: poses }) {
  if (!poses?.length) return cameraOf(camera);
  const moves = movesOf(poses);
  return { ...stillCamera(), kind: "path", moves: moves ?? [], poses: moves ? null : poses };
}

/** Where the camera is in the course of a clip: places with their share (0 to 1) of the time. */
export function stopsOf(camera) {
  if (camera.kind !== "path") {
    const place = camera.preset ? PRESETS[camera.preset] : Object.fromEntries(AXES.map((axis) => [axis, (camera.axes[axis] / 10) * SCALES[axis]]));
    return [{ at: 0, place: zeros(PARTS) }, { at: 1, place: { ...zeros(PARTS), ...place } }];
  }
  if (camera.poses) return camera.poses.map((pose, n, all) => ({ at: all.length > 1 ? n / (all.length - 1) : 0, place: placeOf(pose) }));
  const total = camera.moves.reduce((sum, move) => sum + move.share, 0);
  const stops = [{ at: 0, place: zeros(PARTS) }];
  for (const move of camera.moves) {
    const { at, place } = stops.at(-1);
    stops.push({ at: at + move.share / total, place: Object.fromEntries(PARTS.map((name) => [name, place[name] + move[name]])) });
  }
  return stops;
}

/** The place at a share of the time; between stops everything changes evenly. */
export function placeAt(stops, share) {
  const found = stops.findIndex(({ at }) => at >= share - 1e-9);
  const next = Math.max(1, found < 0 ? stops.length - 1 : found);
  const [a, b] = [stops[next - 1], stops[next] ?? stops[0]];
  const part = b.at > a.at ? Math.min(1, Math.max(0, (share - a.at) / (b.at - a.at))) : 1;
  return Object.fromEntries(PARTS.map((name) => [name, a.place[name] + (b.place[name] - a.place[name]) * part]));
}
