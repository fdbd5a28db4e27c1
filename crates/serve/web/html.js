// The page's view of the vendored modules: `html` makes elements from templates, and texts in them become text nodes.
import { h, render } from "./vendor/preact.module.js";
import htm from "./vendor/htm.module.js";

export { render };
export { useEffect, useLayoutEffect, useMemo, useReducer, useRef, useState } from "./vendor/hooks.module.js";
export const html = htm.bind(h);

/** Joins the class names that are set. */
export const classes = (...names) => names.filter(Boolean).join(" ");

let numbers = 0;
/** Returns a name that no other element of the page has. */
export const unique = (prefix) => `${prefix}-${(numbers += 1)}`;
