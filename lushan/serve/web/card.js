// One picture and its answer: bars, heat map, tour, one number.

import { classify, explain, explainUrl, Refusal } from "./api.js";
import { element, say } from "./dom.js";
import { drawHeat, hasHeat } from "./heat.js";
import { nameOf, remember } from "./names.js";
import { numberPanel } from "./number.js";
import { language, percent, text } from "./texts.js";

const SURE = 0.5;

export class Card {
  constructor(file, name, model, events) {
    Object.assign(this, { file, name, model, events });
    this.url = URL.createObjectURL(file);
    this.state = "waiting";
    this.message = "";
    this.detail = "";
    this.record = null;
    this.heat = null; // { index, values, seen } as shown
    this.strength = 75;
    this.preview = true;
    this.item = element("li", { className: "card" });
    this.draw();
  }

  async run() {
    this.show("working");
    try {
      const lang = language();
      const record = await classify(this.model.name, this.file, (message) => {
        this.message = message;
        this.draw();
      });
      remember(this.model.name, lang, record.predictions);
      this.record = record;
      this.show("done");
      const [best] = record.predictions;
      say(text("answered", {
        picture: this.name,
        name: nameOf(this.model.name, best),
        percent: percent(best.probability),
      }));
      this.events.done(this);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.detail = error.detail;
      this.show("failed", error.message);
      say(text("failed", { picture: this.name, reason: error.message }));
    }
  }

  show(state, message = "") {
    this.state = state;
    this.message = message;
    this.draw();
  }

  close() {
    URL.revokeObjectURL(this.url);
    this.item.remove();
  }

  // Drawn anew, whenever something or the language changes; the focus stays where it was.
  draw() {
    const focused = this.item.contains(document.activeElement)
      ? document.activeElement.dataset.focus
      : null;
    const open = this.item.querySelector("details.number")?.open ?? false;
    this.item.setAttribute("aria-busy", String(["waiting", "working"].includes(this.state)));
    this.item.replaceChildren(
      element("div", { className: "card-top" }, this.figure(), this.answer()),
      ...(this.record?.id && this.model.explains ? [this.number(open)] : []),
    );
    if (focused) this.item.querySelector(`[data-focus="${focused}"]`)?.focus();
  }

  figure() {
    const image = element("img", { src: this.url, alt: this.name });
    const frame = element("div", { className: "frame" }, image);
    image.onerror = () => {
      if (!this.preview) return;
      this.preview = false;
      this.draw();
    };
    if (!this.preview && this.state === "failed") return "";
    if (!this.preview) {
      frame.classList.add("none");
      const words = this.state === "done" ? text("noPreview") : "…";
      frame.replaceChildren(element("p", {}, words));
      return element("figure", {}, frame);
    }
    if (!this.heat) return element("figure", {}, frame);
    const name = nameOf(this.model.name, this.heat.class);
    const label = text("heatOf", { name });
    const canvas = element("canvas", { role: "img", "aria-label": label, className: "heat" });
    drawHeat(canvas, this.heat.values, this.heat.seen);
    canvas.style.setProperty("--strength", this.strength / 100);
    frame.append(canvas);
    const slider = element("input", {
      type: "range", min: 0, max: 100, value: this.strength, "aria-label": text("strength"),
      "data-focus": "strength",
    });
    slider.oninput = () => {
      this.strength = Number(slider.value);
      canvas.style.setProperty("--strength", this.strength / 100);
    };
    const what = text(hasHeat(this.heat.values) ? "heatShown" : "heatNone", { name });
    return element("figure", {}, frame, element("figcaption", {}, what), slider);
  }

  answer() {
    const part = element("div", { className: "answer" });
    const head = element("div", { className: "line" });
    part.append(head);
    const remove = element("button", {
      type: "button", className: "quiet cross", textContent: "×", title: text("removeShort"),
      "aria-label": text("remove", { name: this.name }), "data-focus": "remove",
    });
    remove.onclick = () => this.events.removed(this);
    if (this.state === "done") {
      const [best] = this.record.predictions;
      const name = nameOf(this.model.name, best);
      const title = best.probability < SURE ? text("unsure", { name }) : name;
      head.append(element("h3", {}, title), remove);
      part.append(
        element("p", { className: "small file" }, this.name),
        this.bars(), this.actions(), this.notes(),
      );
    } else {
      head.append(element("h3", { className: "file" }, this.name), remove);
      const waits = this.state !== "failed";
      const words = this.message || text(this.state === "waiting" ? "waiting" : "working");
      part.append(element("p", { className: waits ? "wait" : "wrong" }, words));
      if (this.detail && this.state === "failed") {
        part.append(element("p", { className: "small" }, this.detail));
      }
      if (!waits) {
        const retry = element("button", {
          type: "button", textContent: text("retry"), "data-focus": "retry",
        });
        retry.onclick = () => this.events.retried(this);
        part.append(element("div", { className: "buttons" }, retry));
      }
    }
    return part;
  }

  bars() {
    const list = element("ol", { className: "bars" });
    for (const prediction of this.record.predictions) {
      const name = nameOf(this.model.name, prediction);
      const fill = element("span", { className: "fill" });
      fill.style.width = `${100 * prediction.probability}%`;
      const content = [
        element("span", { className: "name" }, name),
        element("span", { className: "percent" }, percent(prediction.probability)),
        element("span", { className: "bar", "aria-hidden": "true" }, fill),
      ];
      if (this.canShow()) {
        const button = element("button", {
          type: "button", className: "row", title: text("pickClass", { name }),
          "aria-pressed": String(this.heat?.class.index === prediction.index),
          "data-focus": `class ${prediction.index}`,
        }, ...content);
        button.onclick = () => this.toggleHeat(prediction);
        list.append(element("li", {}, button));
      } else {
        list.append(element("li", {}, element("span", { className: "row" }, ...content)));
      }
    }
    return list;
  }

  canShow() {
    return Boolean(this.record.id) && this.model.explains;
  }

  actions() {
    const line = element("div", { className: "buttons" });
    if (!this.canShow()) return line;
    const [best] = this.record.predictions;
    const heat = element("button", {
      type: "button", textContent: text("heat"), "aria-pressed": String(Boolean(this.heat)),
      "data-focus": "heat",
    });
    heat.onclick = () => this.toggleHeat(this.heat ? this.heat.class : best);
    const how = element("a", {
      className: "button main", textContent: text("how"), title: text("howTitle"),
      href: explainUrl(this.record.id, "tour"), target: "_blank", rel: "noopener",
      "data-focus": "how",
    });
    line.append(heat, how);
    if (this.message) line.append(element("p", { className: "wrong" }, this.message));
    return line;
  }

  async toggleHeat(prediction) {
    if (this.heat?.class.index === prediction.index) {
      this.heat = null;
      this.draw();
      return;
    }
    try {
      const found = await explain(this.record.id, "cam", { class: prediction.index });
      this.heat = { ...found, class: prediction };
      this.message = "";
      const name = nameOf(this.model.name, prediction);
      say(text(hasHeat(found.values) ? "heatShown" : "heatNone", { name }));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.message = error.message;
      say(error.message);
    }
    this.draw();
  }

  notes() {
    const input = this.record.input;
    const notes = [text("noteSize", { ...input, format: input.format ?? "?" })];
    if (input.orientation !== 1) notes.push(text("noteTurned"));
    if (input.alpha_composited) notes.push(text("noteAlpha"));
    if (input.frames > 1) notes.push(text("noteFrames", input));
    if (input.color_converted) notes.push(text("noteColours", { profile: input.color_profile }));
    for (const what of input.ignored) notes.push(text("noteIgnored", { what }));
    return element("details", {},
      element("summary", { "data-focus": "notes" }, text("notes")),
      element("ul", { className: "small" }, ...notes.map((note) => element("li", {}, note))));
  }

  number(open) {
    const details = element("details", { className: "number", open },
      element("summary", { "data-focus": "number" }, text("number")));
    const fill = () => {
      if (!details.open || details.children.length > 1) return;
      details.append(numberPanel(this.record.id));
    };
    details.ontoggle = fill;
    fill();
    return details;
  }
}
