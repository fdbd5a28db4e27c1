// A sound and a system notice when a clip is done. Both are off until they are switched on.
import { clipAddress } from "./api.js";
import { short } from "./format.js";
import { message, prefs, say } from "./store.js";
import { t } from "./texts.js";

let audio = null;

/** Two soft tones, made here: no file to load, and no notification needed, so it works on plain http too. */
export async function chime() {
  try {
    audio ??= new AudioContext();
    await audio.resume();
  } catch {
    return; // no sound device
  }
  [659.25, 987.77].forEach((pitch, at) => {
    const begin = audio.currentTime + at * 0.16;
    const [tone, volume] = [audio.createOscillator(), audio.createGain()];
    tone.frequency.value = pitch;
    volume.gain.setValueAtTime(0, begin);
    volume.gain.linearRampToValueAtTime(0.12, begin + 0.02);
    volume.gain.exponentialRampToValueAtTime(0.0001, begin + 0.9);
    tone.connect(volume).connect(audio.destination);
    tone.start(begin);
    tone.stop(begin + 1);
  });
}

/** Asks for permission if that is still open; returns what to tell the user if the answer is no. */
export async function allowNotification() {
  if (!("Notification" in window) || !window.isSecureContext) return "notificationMissing";
  const answer = Notification.permission === "default" ? await Notification.requestPermission() : Notification.permission;
  return answer === "granted" ? null : "notificationDenied";
}

/** Tells that a clip came to its end. */
export function announce(clip) {
  const done = clip.status === "succeeded";
  const [title, prompt] = [t(done ? "doneNote" : "failedNote"), short(clip.request.prompt)];
  say(`${title}: ${prompt}`);
  if (!done) message(clip.error?.message ?? prompt, { kind: "error", title: `${title}: ${short(prompt, 40)}` });
  const { sound, notification } = prefs.get();
  if (sound) chime();
  if (notification && "Notification" in window && Notification.permission === "granted") {
    const options = { body: prompt, tag: clip.id };
    if (done) options.icon = clipAddress(clip.id, "thumbnail");
    const notice = new Notification(title, options);
    notice.onclick = () => window.focus();
  }
}
