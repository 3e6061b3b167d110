// Chapters 3 and 4: colours, resizing and normalising; a neuron and its weights.

const MOUNTAIN = [163, 171, 214]; // 暮山紫, the purple of mountains at dusk

chapter(3, "colour", (section) => {
  const tints = [["red", (r) => [r, 0, 0]], ["green", (r, g) => [0, g, 0]], ["blue", (r, g, b) => [0, 0, b]]];
  section.append(said("h3", "colour.rgb"), paragraph("colour.rgb.text"),
    el("div", { class: "planes" }, tints.map(([name, tint]) => el("figure", {},
      drawPicture(canvas(1, 1, { class: "pixelated" }), undefined, tint), said("figcaption", `colour.${name}`)))),
    swatchLine(), said("h3", "colour.yuv"), paragraph("colour.yuv.text"), pixelPicker(), lumaLine(),
    planesView(), truth("colour.truth"),
    said("h3", "colour.sizes"), sizesTable(), paragraph("colour.sizes.text"),
    said("h3", "colour.effect"), paragraph("colour.effect.text"), variationCards("colour"),
    said("h3", "normal.title"), ...normalView());
});

function ycbcr([r, g, b]) {
  const luma = 0.299 * r + 0.587 * g + 0.114 * b;
  return [luma, (b - luma) / 1.772 + 128, (r - luma) / 1.402 + 128];
}

function swatchLine() {
  const [y, blue, red] = ycbcr(MOUNTAIN);
  return el("p", { class: "readout" },
    el("span", { class: "swatch large", style: `background:rgb(${MOUNTAIN})` }),
    said("span", "colour.mountain", { rgb: MOUNTAIN.join(", "), y: y.toFixed(1), u: blue.toFixed(1), v: red.toFixed(1) }));
}

function lumaLine() {
  const target = el("p", { class: "formula" });
  on("pixel", () => {
    const [r, g, b] = pixelBytes(...state.pixel);
    const [y, blue, red] = ycbcr([r, g, b]);
    target.replaceChildren(
      el("span", {}, `Y′ = 0.299·${r} + 0.587·${g} + 0.114·${b} = ${y.toFixed(2)}`), el("br"),
      el("span", {}, `Cb = (${b} − ${y.toFixed(2)}) / 1.772 + 128 = ${blue.toFixed(2)}`), el("br"),
      el("span", {}, `Cr = (${r} − ${y.toFixed(2)}) / 1.402 + 128 = ${red.toFixed(2)}`));
  });
  return target;
}

function planesView() {
  const [height, width] = data.preprocessing.size;
  const shown = (source, [across, down], key) => el("figure", { style: `flex:${across / width} ${across / width} 0` },
    sayAttribute(el("img", { src: source, class: "pixelated" }), "alt", key), said("figcaption", key), el("small", {}, `${across}×${down}`));
  return el("div", { class: "samplings" }, data.colour.planes.map((one) => el("div", { class: "sampling" },
    el("h4", {}, one.sampling),
    el("div", { class: "planes" },
      shown(data.colour.luma, [width, height], "colour.luma"),
      shown(one.blue, one.size, "colour.cb"),
      shown(one.red, one.size, "colour.cr")))));
}

function sizesTable() {
  const head = [said("span", "colour.picture"), "RGB", "4:4:4", "4:2:2", "4:2:0"];
  return table(head, data.colour.sizes.map((one) => [
    `${one.width}×${one.height}`, bytes(one.rgb), bytes(one["4:4:4"]), bytes(one["4:2:2"]), bytes(one["4:2:0"])]));
}

function normalView() {
  const { preprocessing, picture } = data;
  const [height, width] = preprocessing.size;
  const target = el("p", { class: "formula" });
  on("pixel", () => {
    const [row, column] = state.pixel;
    target.replaceChildren(...pixelBytes(row, column).flatMap((value, c) => [
      el("span", {}, `${"RGB"[c]}: (${value} / 255 − ${preprocessing.mean[c]}) / ${preprocessing.std[c]} = ${short(normalized(row, column, c), 6)}`), el("br")]));
  });
  return [
    paragraph(`normal.${preprocessing.mode}`, {
      from: `${picture.width}×${picture.height}`, to: `${width}×${height}`, how: preprocessing.interpolation, part: percent(preprocessing.crop),
    }),
    paragraph("normal.text"), target,
  ];
}

// --- chapter 4 -----------------------------------------------------------------------------------

chapter(4, "weights", (section) => {
  const { weights, network } = data;
  const [count, KH, KW, IC] = weights.shape;
  const sheet = el("img", { src: weights.sheet, class: "sheet pixelated" });
  sayAttribute(sheet, "alt", "weights.sheet");
  section.append(paragraph("weights.neuron"), neuronView(),
    paragraph("weights.many", { parameters: whole(network.parameters), bytes: bytes(network.weight_bytes) }),
    el("figure", {}, sheet, said("figcaption", "weights.sheet", { count, kernel: `${KH}×${KW}×${IC}`, node: weights.node })),
    el("figure", { class: "chart" }, histogram(weights.counts, weights.edges[0], weights.edges[weights.edges.length - 1]),
      said("figcaption", "weights.histogram", { node: weights.node, total: whole(count * KH * KW * IC) })));
});

function histogram(counts, low, high, mark = () => "") {
  const most = Math.max(...counts, 1);
  const step = (high - low) / counts.length;
  const middle = (i) => low + (i + 0.5) * step;
  return el("div", {},
    bars(counts.map((count) => count / most), {
      classes: counts.map((_, i) => mark(middle(i))),
      titles: counts.map((count, i) => `${short(middle(i), 3)}: ${whole(count)}`),
    }),
    el("div", { class: "axis" }, el("span", {}, short(low, 3)), el("span", {}, short(high, 3))));
}

// Three inputs of the chosen pixel, each with a weight that passes, blocks, or was learned.
function neuronView() {
  const layer = data.layers[0];
  const [, KH, KW, IC] = layer.recipe.kernels.shape;
  const middle = (Math.floor(KH / 2) * KW + Math.floor(KW / 2)) * IC;
  const learned = Array.from(numbers(layer.recipe.kernels).subarray(middle, middle + 3));
  const presets = { pass: [1, 1, 1], red: [1, 0, 0], block: [0, 0, 0], luma: [0.299, 0.587, 0.114], learned };
  let chosen = "pass";
  const view = el("div", { class: "neuron" });
  const choices = el("div", { class: "tabs" }, Object.keys(presets).map((name) =>
    button(`neuron.${name}`, () => { chosen = name; draw(); }, { "data-preset": name })));
  const draw = () => {
    const inputs = [0, 1, 2].map((c) => normalized(...state.pixel, c));
    const weights = presets[chosen];
    const sum = exactSum(inputs.map((x, c) => x * weights[c]));
    for (const one of choices.children) one.classList.toggle("chosen", one.dataset.preset === chosen);
    view.replaceChildren(...inputs.map((x, c) => el("div", { class: "synapse" },
      el("span", { class: `input c${c}` }, `${"RGB"[c]} ${short(x)}`),
      el("span", { class: `weight${weights[c] === 0 ? " blocked" : ""}` }, `× ${short(weights[c], 3)}`),
      el("span", {}, `= ${short(x * weights[c])}`))),
    el("div", { class: "synapse total" }, el("span", {}, `Σ = ${short(sum)}`), el("span", {}, "→ ReLU →"), el("b", {}, short(Math.max(0, sum)))));
  };
  on("pixel", draw);
  return el("div", {}, choices, view);
}
