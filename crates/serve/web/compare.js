// Two clips side by side, moving together.
import { html, useEffect, useRef, useState } from "./html.js";
import * as api from "./api.js";
import { Dialog } from "./dialog.js";
import { decimal } from "./format.js";
import { IconButton } from "./icons.js";
import { app } from "./store.js";
import { t } from "./texts.js";
import { facts } from "./viewer.js";

const SLACK = 0.06; // seconds that two players may be apart: about a frame

function Differences({ pair }) {
  const models = app.use((state) => state.models);
  const me = app.use((state) => state.me);
  const lists = pair.map((clip) => new Map([["prompt", clip.request.prompt], ...facts(clip, models, me)]));
  const names = [...new Set(lists.flatMap((list) => [...list.keys()]))].filter((name) => name !== "made" && name !== "file" && String(lists[0].get(name)) !== String(lists[1].get(name)));
  if (!names.length) return html`<p class="hint">${t("noDifferences")}</p>`;
  return html`<table class="differences"><caption>${t("differences")}</caption><colgroup><col class="narrow" /><col /><col /></colgroup><thead class="hidden"><tr><th scope="col">${t("settings")}</th><th scope="col">A</th><th scope="col">B</th></tr></thead>
    <tbody>${names.map((name) => html`<tr key=${name}><th scope="row">${t(name)}</th>${lists.map((list) => html`<td>${list.get(name) ?? "–"}</td>`)}</tr>`)}</tbody></table>`;
}

export function Compare({ ids }) {
  const clips = app.use((state) => state.clips);
  const pair = ids.map((id) => clips.get(id)).filter(Boolean);
  const players = [useRef(), useRef()];
  const [playing, setPlaying] = useState(true);
  const [at, setAt] = useState(0);
  const [length, setLength] = useState(0);
  const both = () => players.map((player) => player.current).filter(Boolean);
  useEffect(() => {
    const [first, second] = both();
    if (!second) return undefined;
    let frame = 0;
    // The first one leads; the other is put right when it has drifted, and waits at its end if it is shorter.
    const follow = () => {
      const target = Math.min(first.currentTime, Math.max(0, (second.duration || 0) - 0.01));
      if (Math.abs(second.currentTime - target) > SLACK && !second.seeking) second.currentTime = target;
      setAt(first.currentTime);
      frame = requestAnimationFrame(follow);
    };
    follow();
    return () => cancelAnimationFrame(frame);
  }, []);
  const toggle = () => {
    for (const player of both()) {
      if (playing) player.pause();
      else player.play().catch(() => {});
    }
    setPlaying(!playing);
  };
  const seek = (event) => {
    for (const player of both()) player.currentTime = Math.min(Number(event.target.value), player.duration || 0);
  };
  if (pair.length < 2) return null;
  return html`<${Dialog} label=${t("compareTitle")} wide>
    <div class="compare">${pair.map((clip, n) => html`<figure key=${clip.id}>
      <video ref=${players[n]} src=${api.clipAddress(clip.id, "video")} muted loop playsinline autoplay aria-label=${clip.request.prompt}
        onLoadedMetadata=${(event) => n === 0 && setLength(event.target.duration)} />
      <figcaption><b>${n === 0 ? "A" : "B"}</b> ${clip.request.prompt}</figcaption></figure>`)}</div>
    <div class="compare-bar">
      <${IconButton} icon=${playing ? "pause" : "play"} label=${t(playing ? "pause" : "play")} onClick=${toggle} />
      <input type="range" aria-label=${t("time")} min="0" max=${length || 1} step="0.01" value=${at} onInput=${seek} />
      <span class="compare-time">${t("secondsShort", { n: decimal(at, 1) })}</span>
    </div>
    <${Differences} pair=${pair} />
  </${Dialog}>`;
}
