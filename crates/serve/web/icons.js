// Line icons, 24 units wide, drawn with the text's colour. They say nothing by themselves: the button has the label.
import { html } from "./html.js";

const PATHS = {
  star: "M12 4l2.4 5 5.6.7-4.1 3.8 1.1 5.5-5-2.8-5 2.8 1.1-5.5L4 9.7 9.6 9z",
  play: "M8 5.500v13l11-6.500z",
  pause: "M8.5 6v12M15.5 6v12",
  close: "M6.5 6.500l11 11M17.5 6.500l-11 11",
  up: "M12 18V7M7.5 11L12 6.5 16.5 11",
  first: "M12 19v-8.500M7.5 14L12 9.5 16.5 14M6.5 5.500h11",
  edit: "M5 19l1-4.200L15.8 5l3.2 3.200L9.2 18zM13.5 7.300l3.2 3.2",
  trash: "M5 7.500h14M9.5 7.500V5h5v2.500M7 7.500l.8 11.500h8.400L17 7.500M10.5 11v5M13.5 11v5",
  download: "M12 5v10M7.5 11L12 15.5 16.5 11M5.5 19h13",
  plus: "M12 5.500v13M5.5 12h13",
  grip: "M9 6.500h.1M9 12h.1M9 17.500h.1M15 6.500h.1M15 12h.1M15 17.500h.1",
  below: "M12 6v11M7.5 13L12 17.5 16.5 13",
  scissors: "M9 9.200L19 18M9 14.800L19 6M7.2 10a2.4 2.4 0 1 0 0-4.800 2.4 2.4 0 0 0 0 4.800M7.2 18.800a2.4 2.4 0 1 0 0-4.800 2.4 2.4 0 0 0 0 4.800",
  sliders: "M5 8h8M17 8h2M5 16h2M11 16h8M15 5.800v4.400M9 13.800v4.4",
  lock: "M7 11h10v8H7zM9 11V8.500a3 3 0 0 1 6 0V11",
  unlock: "M7 11h10v8H7zM9 11V8a3 3 0 0 1 5.8-1",
  image: "M5 6h14v12H5zM5.5 16l4-4 3 3 2.5-2.5 3.5 3.500M15.2 9.500h.1",
  film: "M5 6h14v12H5zM8.5 6v12M15.5 6v12M5 10h3.500M5 14h3.500M15.5 10H19M15.5 14H19",
  check: "M6 12.500l4 4 8-9",
  history: "M5.2 9.500A7.3 7.3 0 1 1 4.8 13M4.5 5.500v4h4M12 8.500V12l2.5 2",
  compare: "M5 6h6v12H5zM13 6h6v12h-6z",
  left: "M14 6.500L8.5 12l5.5 5.5",
  right: "M10 6.500l5.5 5.5-5.5 5.5",
  down: "M6.5 10l5.5 5.5 5.5-5.5",
  continue: "M5 7v10M9 12h9M14 8l4.5 4L14 16",
  search: "M10.8 5.500a5.3 5.3 0 1 0 0 10.6 5.3 5.3 0 0 0 0-10.600M14.8 14.800l4 4",
  warning: "M12 5l8 14H4zM12 10.500v4M12 16.700v.1",
  info: "M12 4.500a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15M12 11v5M12 8.200v.1",
  camera: "M5 8h9v8H5zM14 11l5-3v8l-5-3",
  copy: "M9 9h9v10H9zM6 15V5h9",
  reset: "M6 8.500A7 7 0 1 1 5 12M5.5 4.500v4.500H10",
};

export const Icon = ({ name, filled }) => html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false"
  fill=${filled ? "currentColor" : "none"} stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round">
  <path d=${PATHS[name]} /></svg>`;

const LEAVES = Array.from({ length: 12 }, (_, at) => at * 30);

/** The mark: the leaves of pictures on the drum of a kinora. */
export const Mark = () => html`<svg class="mark" viewBox="0 0 64 64" aria-hidden="true" focusable="false" fill="currentColor">
  ${LEAVES.map((angle) => html`<rect x="30" y="4" width="4" height="18" rx="2" transform=${`rotate(${angle} 32 32)`} opacity=${1 - angle / 500} />`)}
  <circle cx="32" cy="32" r="5.5" /></svg>`;

/** A frame of that aspect, for the buttons that choose one. */
export function AspectIcon({ aspect }) {
  const [w, h] = aspect.split(":").map(Number);
  const scale = 15 / Math.max(w, h);
  const [width, height] = [w * scale, h * scale];
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false" fill="none" stroke="currentColor" stroke-width="1.7">
    <rect x=${12 - width / 2} y=${12 - height / 2} width=${width} height=${height} rx="1.5" /></svg>`;
}

/** A button that is an icon alone; `label` is what it is called. */
export const IconButton = ({ icon, label, filled, class: extra = "", ...rest }) => html`<button type="button" class=${`icon-button ${extra}`}
  aria-label=${label} title=${label} ...${rest}><${Icon} name=${icon} filled=${filled} /></button>`;
