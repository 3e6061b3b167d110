// Chapter 5: the stem's convolution, played step by step.

chapter(5, "convolution", (section) => {
  const layer = data.layers[0];
  const { recipe } = layer;
  const [, KH, KW, IC] = recipe.kernels.shape;
  const [height, width] = data.preprocessing.size;
  section.append(said("blockquote", "poem.inside"), paragraph("convolution.text", {
    formula: `[1, ${height}, ${width}, ${IC}] ∗ [${data.weights.shape[0]}, ${KH}, ${KW}, ${IC}] → [1, ${layer.shape.join(", ")}]`,
    stride: recipe.stride[0], padding: recipe.padding[0],
  }), player(layer), truth("convolution.truth"), paragraph("convolution.small"),
  said("h3", "field.title"), paragraph("field.text"), fieldsView());
});

// Slides the kernel over the picture; the map appears number by number.
function player(layer) {
  const [top, left, bottom, right] = layer.crop;
  const [rows, columns] = [bottom - top, right - left];
  const total = rows * columns;
  const run = { k: 0, step: 0, timer: null };
  const input = drawPicture(canvas(1, 1, { class: "pixelated" }));
  const inputHolder = el("div", { class: "over" }, input);
  const windowFrame = frame(inputHolder, [0, 0, 0, 0], { class: "frame mark" });
  const output = canvas(columns, rows, { class: "map pixelated", tabindex: 0 });
  sayAttribute(output, "aria-label", "convolution.output");
  const outputHolder = el("div", { class: "over" }, output);
  const cellFrame = frame(outputHolder, [0, 0, 0, 0], { class: "frame cell-frame" });
  const slider = el("input", { type: "range", min: 0, max: total - 1, value: 0 });
  sayAttribute(slider, "aria-label", "convolution.step");
  const numbersView = el("div", { class: "playing" });
  const channels = el("div", { class: "thumbnails" });
  const play = button("play", () => toggle(), { class: "play" });
  const draw = () => {
    const row = top + Math.floor(run.step / columns);
    const column = left + (run.step % columns);
    const found = arithmetic(layer, run.k, row, column);
    slider.value = String(run.step);
    drawStep(layer, run, found, output, windowFrame, cellFrame);
    numbersView.replaceChildren(...stepNumbers(found));
    for (const [k, one] of Array.from(channels.children).entries()) one.classList.toggle("chosen", k === run.k);
  };
  const toggle = () => {
    if (run.timer) {
      clearInterval(run.timer);
      run.timer = null;
    } else {
      const pace = Math.max(1, Math.round(total / 600));
      run.timer = setInterval(() => {
        run.step = run.step + pace < total ? run.step + pace : 0;
        draw();
      }, 60);
    }
    play.classList.toggle("playing", Boolean(run.timer));
  };
  const go = (step) => { run.step = Math.max(0, Math.min(total - 1, step)); draw(); };
  slider.addEventListener("input", () => go(Number(slider.value)));
  output.addEventListener("click", (event) => {
    const [row, column] = placeOn(output, event);
    go(row * columns + column);
    openCell(layer, run.k, top + row, left + column);
  });
  output.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: -columns, ArrowDown: columns, ArrowLeft: -1, ArrowRight: 1 };
    if (!moves[event.key]) return;
    event.preventDefault();
    go(run.step + moves[event.key]);
  });
  layer.channels.forEach((channel, k) => {
    const [, height, width] = layer.maps.shape;
    const map = drawMap(canvas(width, height, { class: "pixelated" }), plane(layer.maps, k), width, height);
    channels.append(el("button", { type: "button", class: "thumbnail", title: String(channel.channel), onclick: () => { run.k = k; draw(); } }, map));
  });
  // Begin where the first channel answers most: there is something to see.
  run.step = (layer.channels[0].row - top) * columns + (layer.channels[0].column - left);
  draw();
  return el("div", { class: "player" },
    el("div", { class: "controls" }, play, button("step.back", () => go(run.step - 1)), button("step.on", () => go(run.step + 1)), slider),
    el("div", { class: "pair" }, el("figure", {}, inputHolder, said("figcaption", "convolution.input")),
      el("figure", {}, outputHolder, said("figcaption", "convolution.output"))),
    channels, numbersView);
}

function drawStep(layer, run, found, output, windowFrame, cellFrame) {
  const [height, width] = data.preprocessing.size;
  const [, rows, columns] = layer.maps.shape;
  const values = plane(layer.maps, run.k);
  const limits = range(values);
  const until = Float32Array.from(values, (value, i) => (i <= run.step ? value : limits[0]));
  drawMap(output, until, columns, rows, limits);
  const context = output.getContext("2d");
  context.globalAlpha = 0.35; // what is still to come
  const whole = drawMap(canvas(columns, rows), values, columns, rows, limits);
  context.drawImage(whole, 0, 0);
  context.globalAlpha = 1;
  moveFrame(windowFrame, [found.startRow / height, found.startColumn / width,
    ((found.KH - 1) * layer.recipe.dilation[0] + 1) / height, ((found.KW - 1) * layer.recipe.dilation[1] + 1) / width]);
  moveFrame(cellFrame, [Math.floor(run.step / columns) / rows, (run.step % columns) / columns, 1 / rows, 1 / columns]);
}

function stepNumbers(found) {
  const { KH, KW, IC, cut, kernel, products, inside, layer } = found;
  const pick = (values, c) => Array.from({ length: KH * KW }, (_, i) => values[i * IC + c]);
  const most = { cut: Math.max(...cut.map(Math.abs)), kernel: Math.max(...kernel.map(Math.abs)), products: Math.max(...products.map(Math.abs)) };
  const names = ["red", "green", "blue"];
  const row = (c) => el("div", { class: "grids" },
    gridFigure(`colour.${names[c]}`, numberGrid(pick(cut, c), KH, KW, { inside, most: most.cut })),
    gridFigure("cell.kernel", numberGrid(pick(kernel, c), KH, KW, { most: most.kernel })),
    gridFigure("cell.products", numberGrid(pick(products, c), KH, KW, { inside, most: most.products })));
  const activation = layer.recipe.activation === "none" ? "" : ` → ${layer.recipe.activation} → ${short(found.value, 7)}`;
  return [
    el("p", { class: "formula" }, `Σ ${found.products.length} = ${short(found.sum, 7)}   ${found.bias < 0 ? "−" : "+"} ${short(Math.abs(found.bias), 5)} = ${short(found.before, 7)}${activation}`),
    ...[0, 1, 2].map(row),
  ];
}

// What one number of each layer can see of the picture, around its strongest place.
function fieldsView() {
  const [height, width] = data.preprocessing.size;
  const holder = el("div", { class: "over" }, drawPicture(canvas(1, 1, { class: "pixelated" })));
  const list = el("ul", { class: "fields" });
  data.layers.forEach((layer, i) => {
    const [top, left, bottom, right] = layer.channels[0].box;
    frame(holder, [top / height, left / width, (bottom - top) / height, (right - left) / width], { class: `frame field f${i % 7}` });
    list.append(el("li", { class: `f${i % 7}` }, el("b", {}, layer.node), ` ${shape(layer.field)}`));
  });
  return el("div", { class: "pair" }, el("figure", {}, holder), list);
}
