// The page: where pictures come in, and what becomes of them.

import { limitsOfService, models, Refusal } from "./api.js";
import { openCamera } from "./camera.js";
import { Card } from "./card.js";
import { byId, element, say } from "./dom.js";
import { drawHistory, modelsOfHistory, openHistory, record } from "./history.js";
import { learn } from "./names.js";
import { language, text, translate } from "./texts.js";

const AT_ONCE = 2; // requests; the service has other clients
const cards = []; // newest first
const queue = [];
let running = 0;
let known = [];

function store(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // It lasts as long as the page.
  }
}

function tell(message, again = null) {
  const notice = byId("notice");
  notice.hidden = !message;
  notice.replaceChildren(message);
  if (message && again) {
    const button = element("button", { type: "button", textContent: text("retry") });
    button.onclick = again;
    notice.append(" ", button);
  }
}

const model = () => known.find(({ name }) => name === byId("model").value) ?? known[0];

// --- pictures ---------------------------------------------------------------------------------------

function add(files, name = null) {
  if (!files.length) {
    tell(text("errorNotPictures"));
    return;
  }
  tell("");
  const added = files.map((file, index) => {
    const called = name ? (index ? `${name} ${index + 1}` : name) : file.name || text("picture");
    return new Card(file, called, model(), { done: record, removed: remove, retried: enqueue });
  });
  cards.unshift(...added);
  byId("results").prepend(...added.map((card) => card.item));
  byId("results-section").hidden = false;
  added.forEach(enqueue);
  added[0].item.scrollIntoView({ block: "nearest", behavior: motion() });
}

const motion = () =>
  matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";

function enqueue(card) {
  card.model ??= model();
  card.show("waiting");
  queue.push(card);
  work();
}

async function work() {
  if (running >= AT_ONCE || !queue.length) return;
  const card = queue.shift();
  running += 1;
  try {
    if (!known.length) await meet();
    card.model ??= model();
    if (card.model) await card.run();
    else card.show("failed", text("errorUnreachable"));
  } finally {
    running -= 1;
    work();
  }
}

function remove(card) {
  const place = cards.indexOf(card);
  cards.splice(place, 1);
  if (queue.includes(card)) queue.splice(queue.indexOf(card), 1);
  card.close();
  say(text("removed", { name: card.name }));
  byId("results-section").hidden = !cards.length;
  const next = cards[Math.min(place, cards.length - 1)];
  (next?.item.querySelector('[data-focus="remove"]') ?? byId("choose")).focus();
}

const isPicture = (file) => !file.type || file.type.startsWith("image/");

function openDoors() {
  byId("choose").onclick = () => byId("files").click();
  byId("files").onchange = (event) => {
    add([...event.target.files]);
    event.target.value = "";
  };
  openCamera(add, tell);
  addEventListener("paste", (event) => {
    if (event.target instanceof HTMLInputElement) return;
    const files = [...(event.clipboardData?.files ?? [])].filter(isPicture);
    if (files.length) event.preventDefault();
    add(files, text("pasted"));
  });
  let depth = 0; // of elements that a dragged file is over
  const over = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dragging", depth > 0);
    byId("drop-title").textContent = text(depth ? "dropNow" : "dropTitle");
  };
  addEventListener("dragenter", () => over(1));
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    add([...(event.dataTransfer?.files ?? [])]);
  });
  byId("clear-results").onclick = () => {
    [...cards].forEach(remove);
    byId("choose").focus();
  };
}

// --- models, language and colours -------------------------------------------------------------------

async function meet() {
  try {
    known = await models();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    tell(error.message, meet);
    return;
  }
  tell("");
  byId("model").replaceChildren(...known.map(({ name }) => element("option", {}, name)));
  byId("model-choice").hidden = known.length < 2;
  draw();
}

function draw() {
  translate({ minutes: Math.round(limitsOfService().kept_seconds / 60) });
  byId("language").textContent = language() === "zh" ? "English" : "中文";
  byId("language").lang = language() === "zh" ? "en" : "zh";
  const chosen = model();
  byId("facts").textContent = chosen
    ? text("facts", { model: chosen.name, classes: chosen.classes })
    : "";
  cards.forEach((card) => card.draw());
  drawHistory();
}

function openSettings() {
  byId("language").onclick = async () => {
    document.documentElement.lang = language() === "zh" ? "en" : "zh";
    store("language", language());
    draw();
    await learn([...cards.map((card) => card.model?.name), ...modelsOfHistory()].filter(Boolean));
    draw();
  };
  const theme = byId("theme");
  theme.value = document.documentElement.dataset.theme ?? "auto";
  theme.onchange = () => {
    if (theme.value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme.value;
    store("theme", theme.value);
  };
  byId("model").onchange = draw;
}

openSettings();
openDoors();
draw();
await openHistory();
await meet();
