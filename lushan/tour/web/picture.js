// Chapters 1 and 2: pixels, and where they lie in memory.

const ZOOM_STEPS = 6; // from the whole picture to pixels with room for their numbers
const PIXEL_SIDE = 64; // canvas pixels, of a pixel at the last step

chapter(1, "pixels", (section) => {
  const { picture } = data;
  const [height, width] = data.preprocessing.size;
  const thumbnail = el("img", { src: picture.thumbnail });
  sayAttribute(thumbnail, "alt", "pixels.file.alt");
  const holder = el("div", { class: "over" }, thumbnail);
  const [left, top, across, down] = picture.seen;
  frame(holder, [top, left, down, across]);
  section.append(el("div", { class: "pair" },
    el("figure", {}, holder, el("figcaption", {}, said("span", "pixels.file", {
      width: picture.width, height: picture.height, bytes: bytes(picture.width * picture.height * 3),
      seen: `${width}×${height}`,
    }), ...picture.done.map((name) => said("span", `done.${name}`, {}, { class: "done" })))),
    el("figure", {}, zoomView(), said("figcaption", "pixels.zoom"))));
  section.append(paragraph("pixels.memory"), truth("pixels.truth"),
    said("h3", "pixels.less"), paragraph("pixels.less.text"), variationCards("less"));
});

// The picture, enlarged until every pixel shows its three numbers.
function zoomView() {
  const [height, width] = data.preprocessing.size;
  const side = 448;
  const target = canvas(side, side, { class: "zoom", tabindex: 0 });
  sayAttribute(target, "aria-label", "pixels.zoom");
  const slider = el("input", { type: "range", min: 0, max: ZOOM_STEPS, step: 1, value: 0 });
  sayAttribute(slider, "aria-label", "pixels.slider");
  const view = { step: 0, row: height / 2, column: width / 2 };
  const fitted = side / Math.max(height, width);
  const scale = () => fitted * Math.max(1, PIXEL_SIDE / fitted) ** (view.step / ZOOM_STEPS);
  const clamp = () => {
    const half = side / scale() / 2;
    view.row = half * 2 >= height ? height / 2 : Math.max(half, Math.min(height - half, view.row));
    view.column = half * 2 >= width ? width / 2 : Math.max(half, Math.min(width - half, view.column));
  };
  const draw = () => {
    clamp();
    drawZoom(target, side, scale(), view);
  };
  const at = (event) => {
    const box = target.getBoundingClientRect();
    const y = ((event.clientY - box.top) / box.height - 0.5) * side;
    const x = ((event.clientX - box.left) / box.width - 0.5) * side;
    return [Math.floor(view.row + y / scale()), Math.floor(view.column + x / scale())];
  };
  slider.addEventListener("input", () => {
    view.step = Number(slider.value);
    if (state.pixel) [view.row, view.column] = [state.pixel[0] + 0.5, state.pixel[1] + 0.5];
    draw();
  });
  target.addEventListener("click", (event) => choosePixel(...at(event)));
  target.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (moves[event.key]) choosePixel(state.pixel[0] + moves[event.key][0], state.pixel[1] + moves[event.key][1]);
    else if (event.key === "+" || event.key === "-") {
      slider.value = String(Number(slider.value) + (event.key === "+" ? 1 : -1));
      slider.dispatchEvent(new Event("input"));
    } else return;
    event.preventDefault();
  });
  on("pixel", () => {
    if (view.step) [view.row, view.column] = [state.pixel[0] + 0.5, state.pixel[1] + 0.5];
    draw();
  });
  const readout = el("p", { class: "readout" });
  on("pixel", () => {
    const [r, g, b] = pixelBytes(...state.pixel);
    readout.replaceChildren(el("span", { class: "swatch", style: `background:rgb(${r},${g},${b})` }),
      `[${state.pixel[0]}, ${state.pixel[1]}]  R ${r}  G ${g}  B ${b}`);
  });
  return el("div", { class: "zoom-view" }, target, el("label", { class: "slider" }, "−", slider, "+"), readout);
}

function drawZoom(target, side, scale, view) {
  const [height, width] = data.preprocessing.size;
  const context = target.getContext("2d");
  const rows = side / scale;
  const top = Math.max(0, Math.floor(view.row - rows / 2));
  const left = Math.max(0, Math.floor(view.column - rows / 2));
  const bottom = Math.min(height, Math.ceil(view.row + rows / 2) + 1);
  const right = Math.min(width, Math.ceil(view.column + rows / 2) + 1);
  const part = drawPicture(canvas(1, 1), [top, left, bottom, right]);
  const y = (top - (view.row - rows / 2)) * scale;
  const x = (left - (view.column - rows / 2)) * scale;
  context.clearRect(0, 0, side, side);
  context.imageSmoothingEnabled = false;
  context.drawImage(part, x, y, (right - left) * scale, (bottom - top) * scale);
  if (scale >= 40) writeNumbers(context, [top, left, bottom, right], x, y, scale);
  const [row, column] = state.pixel || [0, 0];
  context.lineWidth = 3;
  context.strokeStyle = "#fff";
  context.strokeRect(x + (column - left) * scale, y + (row - top) * scale, scale, scale);
  context.lineWidth = 1.5;
  context.strokeStyle = "#c2410c";
  context.strokeRect(x + (column - left) * scale, y + (row - top) * scale, scale, scale);
}

function writeNumbers(context, [top, left, bottom, right], x, y, scale) {
  context.font = `${Math.floor(scale / 4.4)}px ui-monospace, monospace`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (let row = top; row < bottom; row += 1) {
    for (let column = left; column < right; column += 1) {
      const values = pixelBytes(row, column);
      const light = values[0] * 0.299 + values[1] * 0.587 + values[2] * 0.114 > 140;
      context.fillStyle = light ? "#111" : "#fff";
      values.forEach((value, c) => context.fillText(value,
        x + (column - left + 0.5) * scale, y + (row - top + 0.22 + 0.28 * c) * scale));
    }
  }
}

function pixelBytes(row, column) {
  const from = (row * data.preprocessing.size[1] + column) * 3;
  return Array.from(numbers(data.pixels).subarray(from, from + 3));
}

function choosePixel(row, column) {
  const [height, width] = data.preprocessing.size;
  state.pixel = [Math.max(0, Math.min(height - 1, row)), Math.max(0, Math.min(width - 1, column))];
  tell("pixel");
}

// --- chapter 2 -----------------------------------------------------------------------------------

chapter(2, "layout", (section) => {
  const [height, width] = data.preprocessing.size;
  section.append(paragraph("layout.shapes", { one: `[${height}, ${width}, 3]`, two: `[2, ${height}, ${width}, 3]` }), pixelPicker());
  for (const layout of data.layout.layouts) section.append(layoutView(layout));
  section.append(paragraph("layout.why"));
});

// The picture, small, to choose a pixel on.
function pixelPicker() {
  const target = drawPicture(canvas(1, 1, { class: "picker pixelated", tabindex: 0 }));
  sayAttribute(target, "aria-label", "pixels.choose");
  const holder = el("div", { class: "over picker-holder" }, target);
  const mark = frame(holder, [0, 0, 0, 0], { class: "frame mark" });
  target.addEventListener("click", (event) => choosePixel(...placeOn(target, event)));
  target.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (!moves[event.key]) return;
    event.preventDefault();
    choosePixel(state.pixel[0] + moves[event.key][0], state.pixel[1] + moves[event.key][1]);
  });
  on("pixel", () => {
    const [height, width] = data.preprocessing.size;
    moveFrame(mark, [state.pixel[0] / height, state.pixel[1] / width, 1 / height, 1 / width]);
  });
  return el("figure", { class: "picker-figure" }, holder, said("figcaption", "pixels.choose"));
}

// Returns the place of a number in a layout, as its strides say: n is the second picture of a batch.
function addressOf(layout, n, h, w, c) {
  const index = {
    HWC: [h, w, c], NHWC: [n, h, w, c], NCHW: [n, c, h, w],
  }[layout.name] || [n, Math.floor(c / layout.block), h, w, c % layout.block];
  return index.reduce((sum, at, axis) => sum + at * layout.strides[axis], 0);
}

// Returns the formula of an address with the numbers of the red value put in.
function substituted(layout, n, h, w) {
  const [H, W] = data.preprocessing.size;
  if (layout.name === "HWC") return `(${h}·${W} + ${w})·3 + 0`;
  if (layout.name === "NHWC") return `((${n}·${H} + ${h})·${W} + ${w})·3 + 0`;
  if (layout.name === "NCHW") return `((${n}·3 + 0)·${H} + ${h})·${W} + ${w}`;
  return `((${n}·1 + 0)·${H} + ${h})·${W}·${layout.block} + ${w}·${layout.block} + 0`;
}

// Returns what lies at an address: [n, h, w, c]; c may be padding of a block.
function atAddress(layout, address) {
  const index = layout.strides.map((stride, axis) => Math.floor(address / stride) % layout.shape[axis]);
  if (layout.name === "HWC") return [0, ...index];
  if (layout.name === "NHWC") return index;
  if (layout.name === "NCHW") return [index[0], index[2], index[3], index[1]];
  return [index[0], index[2], index[3], index[1] * layout.block + index[4]];
}

function layoutView(layout) {
  const formula = el("code", { class: "formula", "data-layout": layout.name });
  const strip = el("div", { class: "strip" });
  on("pixel", () => {
    const [h, w] = state.pixel;
    const n = layout.name === "HWC" ? 0 : 1;
    const places = [0, 1, 2].map((c) => addressOf(layout, n, h, w, c));
    formula.textContent = `${substituted(layout, n, h, w)} = ${places[0]}     R ${places[0]} · G ${places[1]} · B ${places[2]}`;
    formula.setAttribute("data-addresses", places.join(","));
    strip.replaceChildren(...memory(layout, places[0]));
  });
  return el("div", { class: "layout" },
    el("h3", {}, layout.name, " ", el("small", {}, `[${layout.shape.join(", ")}] · ${bytes(layout.bytes)}`)),
    said("p", `layout.${layout.block > 1 ? "blocked" : layout.name}`), formula, strip);
}

// A stretch of memory around an address: numbered cells, coloured by channel.
function memory(layout, address) {
  const total = layout.bytes;
  const start = Math.max(0, Math.min(total - 20, address - 6));
  return Array.from({ length: Math.min(20, total) }, (_, i) => {
    const [, h, w, c] = atAddress(layout, start + i);
    const chosen = h === state.pixel[0] && w === state.pixel[1] && c < 3;
    const value = c < 3 ? pixelBytes(h, w)[c] : 0;
    return el("span", { class: `byte c${Math.min(3, c)}${chosen ? " chosen" : ""}`, title: `h ${h}, w ${w}, c ${c}` },
      el("small", {}, String(start + i)), el("b", {}, String(value)));
  });
}
