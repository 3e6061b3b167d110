// Chapters 9 and 10: activations, and why without them all collapses; pooling with its switches.

const CURVES = [
  ["sigmoid", (x) => 1 / (1 + Math.exp(-x))],
  ["tanh", Math.tanh],
  ["relu", (x) => Math.max(0, x)],
  ["leaky_relu", (x) => (x > 0 ? x : 0.1 * x)],
];

chapter(9, "activation", (section) => {
  section.append(paragraph("activation.text"), curvesView(), truth("activation.truth.tanh"), truth("activation.truth.gradient"),
    said("h3", "activation.here"), paragraph("activation.here.text", { activation: data.network.activation }), histogramsView(),
    said("h3", "collapse.title"), paragraph("collapse.text"), ...collapseView());
});

function curvesView() {
  return el("div", { class: "curves" }, CURVES.map(([name, curve]) => {
    const drawing = svg("svg", { viewBox: "-4 -2.2 8 4.4" });
    const points = (f) => Array.from({ length: 81 }, (_, i) => {
      const x = -4 + i / 10;
      return `${x},${Math.max(-2.2, -f(x))}`;
    }).join(" ");
    const slope = (x) => (curve(x + 1e-4) - curve(x - 1e-4)) / 2e-4;
    drawing.append(svg("path", { d: "M-4 0H4M0 -2.2V2.2", class: "axes" }),
      svg("polyline", { points: points(slope), class: "slope" }), svg("polyline", { points: points(curve), class: "curve" }));
    return el("figure", {}, drawing, el("figcaption", {}, name));
  }));
}

function histogramsView() {
  const stats = data.activations;
  const view = el("div", { class: "chart" });
  const heights = stats.map((one) => one.blocked / one.elements);
  const titles = stats.map((one) => `${one.node}: ${percent(one.blocked / one.elements)}`);
  const choose = (i) => {
    const one = stats[i];
    view.replaceChildren(
      said("p", "activation.blocked", {}, { class: "note" }),
      bars(heights, { height: 60, titles, chosen: i, onchoose: choose }),
      el("h4", {}, one.node),
      histogram(one.counts, one.low, one.high, (x) => (x <= 0 ? "blocked" : "passed")),
      said("p", "activation.numbers", {
        elements: whole(one.elements), blocked: percent(one.blocked / one.elements),
        silent: whole(one.silent), channels: whole(one.channels), saturated: percent(one.saturated / one.elements),
      }));
  };
  choose(0);
  return view;
}

function collapseView() {
  const { collapse } = data;
  if (!collapse) return [paragraph("collapse.none")];
  const grid = (key, blob) => gridFigure(key, numberGrid(Array.from(numbers(blob)), blob.shape[0], blob.shape[1]));
  return [
    el("div", { class: "grids kernels" }, grid("collapse.first", collapse.first), el("span", { class: "sign" }, "∗"),
      grid("collapse.second", collapse.second), el("span", { class: "sign" }, "="), grid("collapse.both", collapse.both)),
    paragraph("collapse.measured", { difference: short(collapse.difference, 2), bent: percent(collapse.with_relu) }),
  ];
}

// --- chapter 10 ----------------------------------------------------------------------------------

chapter(10, "pooling", (section) => {
  section.append(paragraph("pooling.text"));
  const { pooling } = data;
  if (pooling) {
    section.append(poolingView(pooling), paragraph("pooling.moved", { before: percent(pooling.moved[0]), after: percent(pooling.moved[1]) }));
  } else section.append(paragraph("pooling.none"));
  section.append(said("h3", "pooling.global"), paragraph("pooling.global.text", { node: data.votes.node }), globalView(),
    truth("pooling.truth"), paragraph("pooling.changes"), variationCards("moved"));
});

// The winner of each window: the map, what is left of it, and the window under the pointer.
function poolingView(pooling) {
  const stem = data.layers[0];
  const [, height, width] = pooling.maps.shape;
  const chosen = { k: 0, row: 0, column: 0 };
  const before = canvas(1, 1, { class: "map pixelated" });
  const beforeHolder = el("div", { class: "over" }, before);
  const windowFrame = frame(beforeHolder, [0, 0, 0, 0], { class: "frame mark" });
  const winner = frame(beforeHolder, [0, 0, 0, 0], { class: "frame winner" });
  const after = canvas(1, 1, { class: "map pixelated", tabindex: 0, "data-pool": pooling.node });
  sayAttribute(after, "aria-label", "pooling.after");
  const afterHolder = el("div", { class: "over" }, after);
  const cellFrame = frame(afterHolder, [0, 0, 0, 0], { class: "frame cell-frame" });
  const out = el("div", { class: "pool-numbers" });
  const draw = () => {
    const [top, left, bottom, right] = stem.crop;
    const [rows, columns] = [bottom - top, right - left];
    const limits = range(plane(stem.maps, chosen.k));
    drawMap(before, plane(stem.maps, chosen.k), columns, rows, limits);
    drawMap(after, plane(pooling.maps, chosen.k), width, height, limits);
    const found = poolCell(pooling, stem, chosen);
    const [tall, wide] = pooling.kernel;
    moveFrame(windowFrame, [(found.top - top) / rows, (found.left - left) / columns, tall / rows, wide / columns]);
    moveFrame(winner, [(found.row - top) / rows, (found.column - left) / columns, 1 / rows, 1 / columns]);
    moveFrame(cellFrame, [chosen.row / height, chosen.column / width, 1 / height, 1 / width]);
    out.replaceChildren(
      numberGrid(found.values, tall, wide, { inside: found.inside, chosen: found.tap, digits: 4 }),
      said("p", "pooling.won", { value: short(found.displayed, 7), row: found.row, column: found.column }, { "data-value": String(found.displayed), "data-most": String(found.most) }));
  };
  after.addEventListener("click", (event) => { [chosen.row, chosen.column] = placeOn(after, event); draw(); });
  after.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (!moves[event.key]) return;
    event.preventDefault();
    chosen.row = Math.max(0, Math.min(height - 1, chosen.row + moves[event.key][0]));
    chosen.column = Math.max(0, Math.min(width - 1, chosen.column + moves[event.key][1]));
    draw();
  });
  const tabs = el("div", { class: "tabs" }, stem.channels.map((channel, k) =>
    el("button", { type: "button", onclick: () => { chosen.k = k; draw(); } }, `#${channel.channel}`)));
  [chosen.row, chosen.column] = [Math.floor(height / 2), Math.floor(width / 2)];
  draw();
  return el("div", {}, tabs, el("div", { class: "pair" },
    el("figure", {}, beforeHolder, said("figcaption", "pooling.before", { node: stem.node, size: shape(stem.shape.slice(0, 2)) })),
    el("figure", {}, afterHolder, said("figcaption", "pooling.after.of", { node: pooling.node, size: shape(pooling.shape.slice(0, 2)) }))), out);
}

// One window of the pooling: its numbers, the greatest, and the one that the engine's switch names.
function poolCell(pooling, stem, { k, row, column }) {
  const [tall, wide] = pooling.kernel;
  const [firstRow, firstColumn] = pooling.crop;
  const top = (firstRow + row) * pooling.stride[0] - pooling.padding[0];
  const left = (firstColumn + column) * pooling.stride[1] - pooling.padding[1];
  const [cropTop, cropLeft, cropBottom, cropRight] = stem.crop;
  const values = [];
  const inside = [];
  for (let i = 0; i < tall * wide; i += 1) {
    const y = top + Math.floor(i / wide);
    const x = left + (i % wide);
    inside.push(y >= cropTop && x >= cropLeft && y < cropBottom && x < cropRight);
    values.push(inside[i] ? plane(stem.maps, k)[(y - cropTop) * (cropRight - cropLeft) + x - cropLeft] : 0);
  }
  const [, , width] = pooling.maps.shape;
  const tap = plane(pooling.taps, k)[row * width + column];
  return {
    top, left, values, inside, tap,
    row: top + Math.floor(tap / wide), column: left + (tap % wide),
    most: Math.max(...values.filter((_, i) => inside[i])), displayed: plane(pooling.maps, k)[row * width + column],
  };
}

// Global average pooling: the last maps, each become one number.
function globalView() {
  const layer = data.layers[data.layers.length - 1];
  const features = numbers(data.votes.features);
  return el("div", { class: "channels" }, layer.channels.slice(0, 8).map((channel, k) =>
    el("figure", { class: "channel" }, mapCanvas(layer, k), el("figcaption", {}, `#${channel.channel} → ${short(features[channel.channel], 4)}`))));
}
