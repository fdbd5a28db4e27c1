// Lists whose rows are moved by a handle: with a mouse, a pen or a finger, and with the arrow keys.
import { useRef, useState } from "./html.js";

/** Returns the list's `ref`, what a row's handle needs, and the class that shows where a row would go. `moved` runs after a move by keys. */
export function useSorting(count, move, moved) {
  const list = useRef();
  const [drag, setDrag] = useState(null); // the row that is dragged, and the gap that it would go to
  const gapAt = (y) => [...list.current.children].filter((row) => row.getBoundingClientRect().top + row.offsetHeight / 2 < y).length;
  const place = ({ from, gap }) => (gap > from ? gap - 1 : gap);
  const begin = (event, at) => {
    if (count < 2 || event.button !== 0) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    setDrag({ from: at, gap: at });
  };
  const over = (event) => {
    if (!drag) return;
    const gap = gapAt(event.clientY);
    setDrag({ ...drag, gap });
    list.current.children[Math.min(gap, count - 1)]?.scrollIntoView({ block: "nearest" });
  };
  const end = () => {
    if (drag) move(drag.from, place(drag));
    setDrag(null);
  };
  const keys = (event, at) => {
    const to = at + ({ ArrowUp: -1, ArrowDown: 1 }[event.key] ?? NaN);
    if (event.key === "Escape" && drag) setDrag(null);
    if (!(to >= 0 && to < count)) return;
    event.preventDefault();
    moved(at); // it is named by the row, which is the same one after the move
    move(at, to);
  };
  const handle = (at) => ({
    onPointerDown: (event) => begin(event, at), onPointerMove: over, onPointerUp: end, onPointerCancel: () => setDrag(null), onKeyDown: (event) => keys(event, at),
  });
  const classOf = (at) => {
    if (!drag) return "";
    if (drag.from === at) return "dragged";
    if (place(drag) === drag.from) return "";
    if (drag.gap === at) return "drop-above";
    return drag.gap === count && at === count - 1 ? "drop-below" : "";
  };
  return { list, handle, classOf };
}
