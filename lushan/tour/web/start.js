// Puts the page together: head, contents, chapters; language, theme, keyboard.

function buildHead() {
  const { picture, model } = data;
  const seen = drawPicture(canvas(1, 1, { class: "pixelated portrait" }));
  sayAttribute(seen, "aria-label", "head.seen");
  const language = button("language", () => setLanguage(state.language === "zh" ? "en" : "zh"), { id: "language" });
  const theme = button("theme", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme.includes("dark") && !getComputedStyle(document.documentElement).colorScheme.includes("light");
    document.documentElement.dataset.theme = dark ? "light" : "dark";
  }, { id: "theme" });
  document.getElementById("top").append(
    el("div", { class: "tools" }, el("span", { class: "brand" }, "lushan 庐山"), language, theme),
    el("div", { class: "intro" }, seen, el("div", {},
      said("h1", "title"), said("p", "head.text", { picture: picture.name, model: model.name }), answerList(data.answers))),
    said("p", "head.keys", {}, { class: "note" }));
  follow(document.querySelector("title"), () => `${t("title")} – ${picture.name}`);
}

function buildChapters() {
  const main = document.getElementById("tour");
  const contents = el("ol");
  chapters.sort((a, b) => a.number - b.number);
  for (const { number, key, build } of chapters) {
    const section = el("section", { id: `chapter-${number}`, class: "chapter", tabindex: -1 },
      el("h2", {}, el("span", { class: "count" }, String(number)), " ", said("span", `${key}.title`)), said("p", `${key}.lead`, {}, { class: "lead" }));
    build(section);
    main.append(section);
    contents.append(el("li", {}, said("a", `${key}.title`, {}, { href: `#chapter-${number}` })));
  }
  document.getElementById("contents").append(el("details", { open: window.innerWidth > 1100 }, said("summary", "contents"), contents));
}

// n and p go from chapter to chapter, l changes the language, d the theme, Escape closes the panel.
function buildKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
    const sections = Array.from(document.querySelectorAll(".chapter"));
    const here = sections.filter((section) => section.getBoundingClientRect().top < 80).length - 1;
    const go = (place) => sections[Math.max(0, Math.min(sections.length - 1, place))].scrollIntoView({ block: "start" });
    if (event.key === "n") go(here + 1);
    else if (event.key === "p") go(here - 1);
    else if (event.key === "l") document.getElementById("language").click();
    else if (event.key === "d") document.getElementById("theme").click();
    else if (event.key === "Escape") closeCell();
  });
}

buildHead();
buildChapters();
buildKeys();
choosePixel(Math.floor(data.preprocessing.size[0] / 2), Math.floor(data.preprocessing.size[1] / 2));
setLanguage(document.documentElement.lang);
