// Numbers, sizes and times as people read them.
import { locale, t } from "./texts.js";

const whole = (value) => Math.max(1, Math.round(value));

/** A span as one number with a unit, coarser the longer it is: an estimate in seconds would claim too much. */
export function span(seconds) {
  if (seconds < 55) return t("sec", { n: seconds < 10 ? whole(seconds) : 5 * whole(seconds / 5) });
  if (seconds < 3570) return t("min", { n: whole(seconds / 60) });
  const minutes = 5 * Math.round(seconds / 300);
  const [h, m] = [Math.floor(minutes / 60), minutes % 60];
  return m === 0 || h >= 10 ? t("hours", { n: h }) : t("hoursMin", { h, m });
}

/** A measured span, to a tenth of a second below a minute. */
export function measured(seconds) {
  return seconds < 60 ? t("sec", { n: decimal(seconds, 1) }) : span(seconds);
}

export function decimal(value, digits = 1) {
  return new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(value);
}

/** Bytes in units of 1000, as disks are sold. */
export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let [at, number] = [0, value];
  while (number >= 999.5 && at < units.length - 1) [at, number] = [at + 1, number / 1000];
  return `${decimal(number, number < 9.95 && at > 0 ? 1 : 0)} ${units[at]}`;
}

export function moment(ms) {
  return new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(new Date(ms));
}

/** "tomorrow at 00:00" in the browser's words. */
export function soon(ms) {
  const minutes = Math.round((ms - Date.now()) / 60000);
  const words = new Intl.RelativeTimeFormat(locale(), { numeric: "auto" });
  return minutes < 90 ? words.format(Math.max(1, minutes), "minute") : words.format(Math.round(minutes / 60), "hour");
}

export const size = (width, height) => `${width}\u2009×\u2009${height}`;

/** The first words of a prompt, for labels. */
export function short(prompt, most = 80) {
  const line = (prompt ?? "").replace(/\s+/g, " ").trim();
  return line.length > most ? `${line.slice(0, most - 1).trimEnd()}…` : line;
}
