// Chapters 13 to 15: training, numbers in a computer, and the answer in use.

chapter(13, "training", (section) => {
  const { training, model } = data;
  section.append(paragraph("training.text"));
  if (training.evaluation) {
    const { images, top1, top5, data: set } = training.evaluation;
    section.append(paragraph("training.evaluation", {
      model: model.name, images: whole(images), set: set || "–", top1: whole(top1), top5: whole(top5),
      part1: percent(top1 / images), part5: percent(top5 / images),
    }));
  } else section.append(paragraph("training.unknown", { model: model.name }));
  const card = Object.entries(training.card);
  if (card.length) section.append(table([said("span", "training.setting"), said("span", "training.value")], card.map(([key, value]) => [key, String(value)])));
  section.append(said("h3", "gradient.title"), paragraph("gradient.text"), gradientsView(), paragraph("gradient.read"));
});

function gradientsView() {
  const found = data.training.gradients;
  const norms = found.map((one) => one.norm).filter((norm) => norm > 0);
  if (!norms.length) return paragraph("gradient.none");
  const most = Math.log10(Math.max(...norms));
  const least = Math.min(Math.log10(Math.min(...norms)), most - 1);
  const height = (norm) => (norm > 0 ? 0.08 + 0.92 * (Math.log10(norm) - least) / (most - least) : 0);
  return el("figure", { class: "chart" },
    bars(found.map((one) => height(one.norm)), { titles: found.map((one) => `${one.node}: ${short(one.norm, 3)}`), height: 110 }),
    el("div", { class: "axis" }, el("span", {}, `${found[0].node}: ${short(found[0].norm, 3)}`),
      el("span", {}, `${found[found.length - 1].node}: ${short(found[found.length - 1].norm, 3)}`)),
    said("figcaption", "gradient.axis", { low: short(10 ** least, 2), high: short(10 ** most, 2) }));
}

// --- chapter 14 ----------------------------------------------------------------------------------

chapter(14, "numbers", (section) => {
  section.append(paragraph("numbers.text"), absorption(), paragraph("numbers.long"), runningView());
});

function absorption() {
  const large = el("input", { type: "number", value: 20000000, "aria-label": "a", oninput: () => draw() });
  const little = el("input", { type: "number", value: 1, "aria-label": "b", oninput: () => draw() });
  const out = el("output", { class: "formula" });
  const draw = () => {
    const [a, b] = [Math.fround(Number(large.value)), Math.fround(Number(little.value))];
    out.textContent = `float32: ${a} + ${b} = ${Math.fround(a + b)}     float64: ${a + b}`;
  };
  draw();
  return el("div", { class: "absorption" }, large, "+", little, out);
}

// The clicked number: how a plain float32 sum drifts from the exact one, product by product.
function runningView() {
  const view = el("div", { class: "chart running" });
  const layer = data.layers[data.layers.length - 1];
  const first = arithmetic(layer, 0, layer.channels[0].row, layer.channels[0].column);
  const draw = () => {
    const found = opened.number || first;
    const drift = driftOf(found);
    const most = Math.max(...drift.map(Math.abs)) || 1;
    view.replaceChildren(
      el("h4", {}, `${found.layer.node}[${found.row}, ${found.column}, ${found.layer.channels[found.k].channel}]`),
      driftChart(drift, most),
      said("p", "numbers.drift", { count: whole(found.products.length), most: short(most, 2) }, { class: "note" }),
      el("table", { class: "sum" }, el("tbody", {}, line("numbers.exact", found.value, "value"),
        line("cell.displayed", found.displayed, "displayed"), line("cell.deviation", found.deviation, "deviation", 3),
        line("cell.running", found.running - found.value, "running", 3),
        line("numbers.unit", found.magnitude * 2 ** -24, "unit", 3))));
  };
  draw();
  on("cell", draw);
  return view;
}

// Returns the running float32 sum less the exact one, after each product; at most 200 of them.
function driftOf({ products }) {
  const step = Math.max(1, Math.floor(products.length / 200));
  const drift = [];
  let running = Math.fround(0);
  let high = 0; // a sum in two float64: exact enough to compare float32 with
  let low = 0;
  products.forEach((product, i) => {
    running = Math.fround(running + Math.fround(product));
    const sum = high + product;
    const part = sum - high;
    low += (high - (sum - part)) + (product - part);
    high = sum;
    if (i % step === 0 || i === products.length - 1) drift.push(running - (high + low));
  });
  return drift;
}

function driftChart(drift, most) {
  const points = drift.map((value, i) => `${(400 * i) / Math.max(1, drift.length - 1)},${40 - 36 * (value / most)}`).join(" ");
  return svg("svg", { viewBox: "0 0 400 80", class: "drift", preserveAspectRatio: "none" },
    svg("path", { d: "M0 40H400", class: "axes" }), svg("polyline", { points, class: "curve" }));
}

// --- chapter 15 ----------------------------------------------------------------------------------

chapter(15, "use", (section) => {
  const { time, places } = data;
  section.append(paragraph("use.text"), el("div", { class: "figures" },
    figureOf("use.decode", `${short(1000 * time.decode, 3)} ms`),
    figureOf("use.network", `${short(1000 * time.network, 3)} ms`),
    figureOf("use.rate", `${whole(1 / time.network)}`),
    figureOf("use.memory", bytes(data.network.weight_bytes).split(" = ").pop())),
  said("p", "use.machine", { threads: time.threads, engine: time.engine }, { class: "note" }),
  said("h3", "where.title"), paragraph("where.text"), whereView(),
  paragraph(places.exact ? "where.sum" : "where.gradcam", { sum: short(places.cam_sum, 6), node: places.node }), paragraph("use.live"));
});

function figureOf(key, text) {
  return el("div", { class: "figure" }, el("b", {}, text), said("span", key));
}

// The class activation map and the occlusion map, laid over the picture in grey.
function whereView() {
  const { places } = data;
  const target = canvas(1, 1, { class: "where" });
  const readout = el("p", { class: "readout" });
  const holder = el("div", { class: "over" }, target);
  const { occlusion } = places;
  const grid = numbers(occlusion.scores);
  const columns = occlusion.columns.length;
  const kinds = {
    cam: () => [Float32Array.from(numbers(places.cam), (x) => Math.max(0, x)), places.cam.shape[1], places.cam.shape[0]],
    occlusion: () => [Float32Array.from(grid, (score) => Math.max(0, occlusion.score - score)), columns, occlusion.rows.length],
  };
  let kind = "cam";
  const tabs = el("div", { class: "tabs" }, Object.keys(kinds).map((name) => button(`where.${name}`, () => { kind = name; draw(); }, { "data-kind": name })));
  const draw = () => {
    for (const tab of tabs.children) tab.classList.toggle("chosen", tab.dataset.kind === kind);
    heatOver(target, ...kinds[kind](), kind === "cam");
  };
  target.addEventListener("pointermove", (event) => {
    const box = target.getBoundingClientRect();
    const row = Math.min(occlusion.rows.length - 1, Math.floor(((event.clientY - box.top) / box.height) * occlusion.rows.length));
    const column = Math.min(columns - 1, Math.floor(((event.clientX - box.left) / box.width) * columns));
    const place = Math.max(0, row) * columns + Math.max(0, column);
    const probability = numbers(occlusion.probabilities)[place];
    readout.textContent = t("where.covered", { name: label(places.class), before: percent(occlusion.probability), after: percent(probability), score: short(grid[place], 4) });
  });
  draw();
  return el("div", {}, tabs, el("figure", { class: "where-figure" }, holder, labelled("figcaption", places.class)), readout);
}

function heatOver(target, heat, width, height, smooth) {
  const [rows, columns] = data.preprocessing.size;
  const side = Math.max(1, Math.ceil(336 / Math.min(rows, columns)));
  const grey = drawPicture(canvas(1, 1), undefined, (r, g, b) => { const y = 0.299 * r + 0.587 * g + 0.114 * b; return [y, y, y]; });
  target.width = columns * side;
  target.height = rows * side;
  const context = target.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(grey, 0, 0, target.width, target.height);
  const map = drawMap(canvas(1, 1), heat, width, height, [0, range(heat)[1] || 1]);
  const mask = map.getContext("2d");
  const image = mask.getImageData(0, 0, width, height);
  const most = range(heat)[1] || 1;
  heat.forEach((value, i) => { image.data[4 * i + 3] = Math.round(210 * Math.sqrt(Math.max(0, value) / most)); });
  mask.putImageData(image, 0, 0);
  context.imageSmoothingEnabled = smooth;
  context.imageSmoothingQuality = "high";
  context.drawImage(map, 0, 0, target.width, target.height);
}
