// Questions to the service, and its refusals in words for people.

import { byId } from "./dom.js";
import { language, text } from "./texts.js";

const TRIES = 4;
let limits = { body_bytes: Infinity, pixels: Infinity, kept_seconds: 600 };

export class Refusal extends Error {
  constructor(message, detail = "") {
    super(message);
    this.detail = detail;
  }
}

export const limitsOfService = () => limits;

export async function models() {
  const answer = await json("v1/models");
  limits = answer.limits;
  return answer.models;
}

export async function labels(model, lang) {
  const query = new URLSearchParams({ model, lang });
  return (await json(`v1/labels?${query}`)).descriptions;
}

export async function classify(model, file, waiting) {
  if (!file.size) throw new Refusal(text("errorEmpty"));
  if (file.size > limits.body_bytes) throw tooLarge();
  const query = new URLSearchParams({ model, lang: language(), keep: "1" });
  const options = {
    method: "POST",
    body: file,
    headers: { "Content-Type": "application/octet-stream" },
  };
  return (await json(`v1/classify?${query}`, options, waiting)).results[0];
}

export const explainUrl = (id, method, more = {}) =>
  `v1/explain?${new URLSearchParams({ id, method, lang: language(), ...more })}`;

export const explain = (id, method, more = {}, waiting = undefined) =>
  json(explainUrl(id, method, more), {}, waiting);

async function json(address, options = {}, waiting = undefined) {
  for (let attempt = 1; ; attempt += 1) {
    const response = await ask(address, options);
    if (response.ok) return response.json();
    const seconds = Number(response.headers.get("Retry-After"));
    if (response.status === 503 && seconds > 0 && attempt < TRIES) {
      waiting?.(text("errorBusyAgain", { seconds: seconds * attempt }));
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds * attempt));
    } else if (response.status === 401) {
      await askForKey();
    } else {
      throw await refusal(response);
    }
  }
}

async function ask(address, options) {
  const headers = { ...options.headers };
  const key = keyOfTab();
  if (key) headers.Authorization = `Bearer ${key}`;
  try {
    return await fetch(address, { ...options, headers, credentials: "omit" });
  } catch {
    throw new Refusal(text(navigator.onLine ? "errorUnreachable" : "errorOffline"));
  }
}

async function refusal(response) {
  let detail = "";
  let kind = "";
  try {
    ({ error: detail = "", kind = "" } = await response.json());
  } catch {
    // A proxy answered, not the service.
  }
  if (kind === "picture") return new Refusal(text("errorPicture"), detail);
  if (response.status === 413) return tooLarge();
  if (kind === "late") return new Refusal(text("errorLate"));
  if (response.status === 503) return new Refusal(text("errorBusy"));
  if (response.status === 408) return new Refusal(text("errorSlow"));
  if (kind === "forgotten") return new Refusal(text("errorForgotten"));
  if (response.status >= 500) return new Refusal(text("errorInternal"));
  return new Refusal(detail || `${response.status}`);
}

function tooLarge() {
  const megabytes = Math.floor(limits.body_bytes / 2 ** 20);
  const megapixels = Math.floor(limits.pixels / 1e6);
  return new Refusal(text("errorTooLarge", { megabytes, megapixels }));
}

// --- the key ---------------------------------------------------------------------------------------

let asking = null;

function keyOfTab() {
  try {
    return sessionStorage.getItem("key");
  } catch {
    return keyOfTab.fallback;
  }
}

function keepKey(key) {
  try {
    sessionStorage.setItem("key", key);
  } catch {
    keyOfTab.fallback = key;
  }
}

// Several questions may meet a closed door at once: one dialog for all.
function askForKey() {
  asking ??= new Promise((resolve, reject) => {
    const dialog = byId("key-dialog");
    byId("key-wrong").hidden = !keyOfTab();
    byId("key").value = "";
    byId("key-form").onsubmit = () => keepKey(byId("key").value.trim());
    byId("key-close").onclick = () => dialog.close("cancelled");
    dialog.returnValue = "";
    dialog.onclose = () => {
      asking = null;
      if (dialog.returnValue === "cancelled" || !keyOfTab()) reject(new Refusal(text("errorKey")));
      else resolve();
    };
    dialog.oncancel = () => {
      dialog.returnValue = "cancelled";
    };
    dialog.showModal();
  });
  return asking;
}
