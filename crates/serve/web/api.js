// Calls of the server's API. Every answer that is not a success becomes an `ApiError`.
import { app } from "./store.js";
import { t } from "./texts.js";

/** What the server said: `param` names the field that it is about, `code` is for programs. */
export class ApiError extends Error {
  constructor(status, { message, param = null, code = null, type = null } = {}) {
    super(message || t("broken", { status }));
    Object.assign(this, { status, param, code, type });
  }
}

/** Addresses are relative to the page, so that it also works below a path of a proxy. */
export const address = (path) => new URL(`api/${path}`, document.baseURI).href;

function failure(status, text) {
  if (status === 401) app.set({ session: "signin" });
  try {
    return new ApiError(status, JSON.parse(text).error);
  } catch {
    return new ApiError(status);
  }
}

async function call(method, path, body, { signal } = {}) {
  const headers = { accept: "application/json" };
  if (method !== "GET") headers["x-kinora"] = "1";
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer, text;
  try {
    answer = await fetch(address(path), { method, headers, body: body && JSON.stringify(body), signal, credentials: "same-origin" });
    text = await answer.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: t("offline"), code: "offline" });
  }
  if (!answer.ok) throw failure(answer.status, text);
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError(answer.status);
  }
}

export const get = (path, options) => call("GET", path, undefined, options);
export const post = (path, body = {}, options) => call("POST", path, body, options);
export const patch = (path, body) => call("PATCH", path, body);
export const remove = (path) => call("DELETE", path);

/** Uploads a file; `fetch` cannot tell how much is sent, so this is the older interface. Returns the promise and a stop. */
export function upload(file, onProgress) {
  const request = new XMLHttpRequest();
  const promise = new Promise((resolve, reject) => {
    request.upload.onprogress = ({ loaded, total }) => onProgress(total ? loaded / total : 0);
    request.onload = () => {
      if (request.status === 201) resolve(JSON.parse(request.responseText));
      else reject(failure(request.status, request.responseText));
    };
    request.onerror = () => reject(new ApiError(0, { message: t("offline"), code: "offline" }));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    request.open("POST", address("files"));
    request.setRequestHeader("x-kinora", "1");
    const form = new FormData();
    form.append("file", file, file.name || "picture.png");
    request.send(form);
  });
  return { promise, stop: () => request.abort() };
}

export const clipAddress = (id, part) => address(`clips/${encodeURIComponent(id)}/${part}`);
export const fileAddress = (id) => address(`files/${encodeURIComponent(id)}`);
export const isClip = (id) => id.startsWith("video_");

/** The picture of a file, or the last frame of a clip: what an id means where a picture is wanted. */
export const pictureAddress = (id) => (isClip(id) ? clipAddress(id, "last") : fileAddress(id));
/** The moving picture of a file or a clip. */
export const videoAddress = (id) => (isClip(id) ? clipAddress(id, "video") : fileAddress(id));
