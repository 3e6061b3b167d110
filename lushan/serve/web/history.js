// Earlier answers, with a small picture each. They stay in this browser, in IndexedDB.

import { byId, element, say } from "./dom.js";
import { nameOf, remember } from "./names.js";
import { language, percent, text } from "./texts.js";

const MOST = 60;
const SIDE = 192; // pixels of the longer side of a small picture
let entries = []; // newest first
let urls = [];

const asPromise = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

function database() {
  const request = indexedDB.open("lushan", 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("answers", { keyPath: "id", autoIncrement: true });
  };
  return asPromise(request);
}

async function change(work) {
  try {
    const store = (await database()).transaction("answers", "readwrite").objectStore("answers");
    return await asPromise(work(store));
  } catch {
    return null; // a browser that keeps nothing: the history lasts as long as the page
  }
}

export async function openHistory() {
  entries = ((await change((store) => store.getAll())) ?? []).reverse();
  byId("clear-history").onclick = async () => {
    await change((store) => store.clear());
    entries = [];
    drawHistory();
    say(text("cleared"));
    byId("choose").focus();
  };
  drawHistory();
}

export async function record(card) {
  const entry = {
    name: card.name,
    model: card.model.name,
    time: Date.now(),
    language: language(),
    predictions: card.record.predictions.slice(0, 3),
    picture: await small(card.file),
  };
  entry.id = (await change((store) => store.add(entry))) ?? -entry.time;
  entries.unshift(entry);
  for (const old of entries.splice(MOST)) await change((store) => store.delete(old.id));
  drawHistory();
}

export const modelsOfHistory = () => entries.map((entry) => entry.model);

// A JPEG of a few kilobytes; null for a file that this browser cannot show.
async function small(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return null;
  }
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = element("canvas", {
    width: Math.max(1, Math.round(bitmap.width * scale)),
    height: Math.max(1, Math.round(bitmap.height * scale)),
  });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.8));
}

export function drawHistory() {
  urls.forEach((url) => URL.revokeObjectURL(url));
  urls = [];
  byId("history-section").hidden = !entries.length;
  byId("history").replaceChildren(...entries.map(drawn));
}

function drawn(entry) {
  const [best] = entry.predictions;
  remember(entry.model, entry.language, entry.predictions);
  const when = new Intl.DateTimeFormat(language(), { dateStyle: "medium", timeStyle: "short" });
  const image = element("img", { alt: "" });
  if (entry.picture) {
    urls.push(URL.createObjectURL(entry.picture));
    image.src = urls.at(-1);
  }
  const remove = element("button", {
    type: "button", className: "quiet cross", textContent: "×", title: text("removeShort"),
    "aria-label": text("remove", { name: entry.name }),
  });
  remove.onclick = async () => {
    await change((store) => store.delete(entry.id));
    entries = entries.filter((other) => other !== entry);
    drawHistory();
    say(text("removed", { name: entry.name }));
    byId(entries.length ? "clear-history" : "choose").focus();
  };
  const picture = entry.picture ? image : element("span", { className: "none" }, "?");
  return element("li", {}, picture,
    element("div", {},
      element("strong", {}, nameOf(entry.model, best)), " ",
      element("span", { className: "percent" }, percent(best.probability)),
      element("br"),
      element("span", { className: "small" }, when.format(entry.time))),
    remove);
}
