"use strict";
// What every chapter uses: the data, texts in two languages, elements, and what was chosen.

const data = JSON.parse(document.getElementById("data").textContent);
const texts = JSON.parse(document.getElementById("texts").textContent);
const chapters = [];
const spoken = []; // [element, function that puts its text in]
const state = { language: document.documentElement.lang, pixel: null };
const listeners = {};

// Registers a chapter; start.js builds them in the order of their numbers.
function chapter(number, key, build) {
  chapters.push({ number, key, build });
}

function on(event, listener) {
  (listeners[event] ||= []).push(listener);
}

function tell(event) {
  for (const listener of listeners[event] || []) listener();
}

// Returns the text for a key, with {names} filled in. Values may be functions: asked anew each time.
function t(key, values = {}) {
  const text = texts[state.language][key] ?? `⟨${key}⟩`;
  return text.replaceAll(" %", "\u00a0%").replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    if (value === undefined) return whole;
    return typeof value === "function" ? value() : value;
  });
}

// Gives an element a text that follows the language.
function say(element, key, values) {
  const put = () => { element.textContent = t(key, values); };
  spoken.push([element, put]);
  put();
  return element;
}

// Gives an attribute a text that follows the language.
function sayAttribute(element, name, key, values) {
  const put = () => element.setAttribute(name, t(key, values));
  spoken.push([element, put]);
  put();
  return element;
}

// Gives an element whatever `make` returns, now and after every change of the language.
function follow(element, make) {
  const put = () => { element.textContent = make(); };
  spoken.push([element, put]);
  put();
  return element;
}

function setLanguage(language) {
  state.language = language;
  document.documentElement.lang = language === "zh" ? "zh-Hans" : language;
  for (const [, put] of spoken.filter(([element]) => element.isConnected)) put();
  tell("language");
}

// Makes an element: attributes, listeners ("onclick") and children, strings among them.
function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") element.style.cssText = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// An element with a text.
function said(tag, key, values, attributes = {}) {
  return say(el(tag, attributes), key, values);
}

function paragraph(key, values) {
  return said("p", key, values);
}

// A line that tells the truth where the article simplifies.
function truth(key, values) {
  return el("p", { class: "truth", "data-truth": key }, said("b", "truth"), " ", said("span", key, values));
}

function button(key, action, attributes = {}) {
  return said("button", key, {}, { type: "button", onclick: action, ...attributes });
}

// --- names ---------------------------------------------------------------------------------------

function label(index) {
  const known = data.labels[index];
  return known ? known[state.language] : String(index);
}

function labelled(tag, index, attributes = {}) {
  return follow(el(tag, attributes), () => label(index));
}

function percent(part) {
  const hundred = 100 * part;
  const digits = hundred >= 99.95 || hundred < 0.005 ? 0 : hundred >= 10 ? 1 : 2;
  return hundred > 0 && hundred < 0.005 ? "<\u00a00.01\u00a0%" : `${hundred.toFixed(digits)}\u00a0%`;
}

function whole(number) {
  return Math.round(number).toLocaleString("en-US");
}

function bytes(count) {
  const kib = count / 1024;
  if (count < 1024) return `${whole(count)} B`;
  const short = kib >= 100 ? whole(kib) : kib.toFixed(1);
  return kib < 1024 ? `${short} KiB` : `${whole(kib)} KiB = ${(kib / 1024).toFixed(2)} MiB`;
}

// A number with so many significant digits, never in a longer form than needed.
function short(number, digits = 4) {
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 1e7 || size < 1e-4) return number.toExponential(digits - 1).replace("-", "−").replace("e-", "e−").replace("e+", "e");
  const text = number.toPrecision(digits);
  return (text.includes("e") ? String(Math.round(number)) : text).replace("-", "−");
}

function shape(sizes) {
  return sizes.join("×");
}

// --- a list of answers ---------------------------------------------------------------------------

function answerList(answers, small = false) {
  return el("ol", { class: small ? "answers small" : "answers" }, answers.map((one, place) =>
    el("li", { class: place ? "" : "first" },
      el("span", { class: "bar", style: `--part:${one.probability}` }),
      labelled("span", one.index, { class: "name" }),
      el("span", { class: "number" }, percent(one.probability)))));
}

// Cards of the picture changed in some way, each with the answer.
function variationCards(group) {
  const first = data.answers[0];
  return el("div", { class: "cards" }, data.variations.filter((one) => one.group === group).map((one) => {
    const picture = el("img", { src: one.picture, class: "pixelated", loading: "lazy" });
    sayAttribute(picture, "alt", `change.${one.name}`);
    return el("figure", { class: one.answers[0].index === first.index ? "card same" : "card" },
      picture,
      el("figcaption", {}, said("b", `change.${one.name}`),
        el("div", { class: "kept" }, labelled("span", first.index), " ",
          el("span", { class: "number" }, `${percent(first.probability)} → ${percent(one.kept)}`)),
        answerList(one.answers, true)));
  }));
}
