// Drawing: maps in colours, pictures from numbers, small charts.

const HEAT = data.heat;

function canvas(width, height, attributes = {}) {
  return el("canvas", { width, height, ...attributes });
}

// Colours of 256 steps between the least and the greatest number.
const TABLE = (() => {
  const table = new Uint8ClampedArray(256 * 3);
  for (let i = 0; i < 256; i += 1) {
    const place = (i / 255) * (HEAT.length - 1);
    const low = Math.min(HEAT.length - 2, Math.floor(place));
    for (let c = 0; c < 3; c += 1) {
      table[3 * i + c] = HEAT[low][c] + (HEAT[low + 1][c] - HEAT[low][c]) * (place - low);
    }
  }
  return table;
})();

function range(values) {
  let least = Infinity;
  let most = -Infinity;
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return [least, most];
}

// Draws a map [height, width] into a canvas of its own size; shown larger by CSS.
function drawMap(target, values, width, height, [least, most] = range(values)) {
  target.width = width;
  target.height = height;
  const context = target.getContext("2d");
  const image = context.createImageData(width, height);
  const scale = most > least ? 255 / (most - least) : 0;
  for (let i = 0; i < width * height; i += 1) {
    const step = 3 * Math.max(0, Math.min(255, Math.round((values[i] - least) * scale)));
    image.data[4 * i] = TABLE[step];
    image.data[4 * i + 1] = TABLE[step + 1];
    image.data[4 * i + 2] = TABLE[step + 2];
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return target;
}

// Draws the network's picture, or a part of it; `colour` gives [r, g, b] of three bytes.
function drawPicture(target, box = [0, 0, ...data.preprocessing.size], colour = (r, g, b) => [r, g, b]) {
  const pixels = numbers(data.pixels);
  const [, width] = data.preprocessing.size;
  const [top, left, bottom, right] = box;
  target.width = Math.max(1, right - left);
  target.height = Math.max(1, bottom - top);
  const context = target.getContext("2d");
  const image = context.createImageData(target.width, target.height);
  let to = 0;
  for (let y = top; y < bottom; y += 1) {
    for (let x = left; x < right; x += 1) {
      const from = (y * width + x) * 3;
      const [r, g, b] = colour(pixels[from], pixels[from + 1], pixels[from + 2]);
      image.data[to++] = r;
      image.data[to++] = g;
      image.data[to++] = b;
      image.data[to++] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  return target;
}

// Returns where a pointer is on a canvas, in its own pixels.
function placeOn(target, event) {
  const box = target.getBoundingClientRect();
  const column = Math.floor(((event.clientX - box.left) / box.width) * target.width);
  const row = Math.floor(((event.clientY - box.top) / box.height) * target.height);
  return [Math.max(0, Math.min(target.height - 1, row)), Math.max(0, Math.min(target.width - 1, column))];
}

// A frame over something, in parts of its sides.
function frame(holder, [top, left, height, width], attributes = { class: "frame" }) {
  const box = el("div", attributes);
  moveFrame(box, [top, left, height, width]);
  holder.append(box);
  return box;
}

function moveFrame(box, [top, left, height, width]) {
  box.style.cssText = `top:${100 * top}%;left:${100 * left}%;height:${100 * height}%;width:${100 * width}%`;
}

// A grid of numbers [rows, columns], coloured by sign and size; numbers are shown where they fit.
function numberGrid(values, rows, columns, { digits = 2, inside = null, chosen = null, most = null } = {}) {
  const scale = most ?? (Math.max(...Array.from(values, Math.abs)) || 1);
  const grid = el("div", { class: "grid", style: `--columns:${columns}` });
  for (let i = 0; i < rows * columns; i += 1) {
    const outside = inside && !inside[i];
    const part = Math.min(1, Math.abs(values[i]) / scale);
    const text = outside ? "·" : short(values[i], digits);
    grid.append(el("span", {
      class: `${values[i] < 0 ? "negative" : "positive"}${outside ? " outside" : ""}${chosen === i ? " chosen" : ""}`,
      style: `--part:${part.toFixed(3)}`,
      title: outside ? "" : String(values[i]),
    }, text));
  }
  return grid;
}

// Bars side by side in an SVG: heights are parts of 1; `classes` may mark some.
function bars(heights, { height = 90, classes = [], titles = [], chosen = -1, onchoose = null } = {}) {
  const width = 400;
  const each = width / heights.length;
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "bars", preserveAspectRatio: "none" });
  heights.forEach((part, i) => {
    const tall = Math.max(part > 0 ? 1 : 0, part * height);
    const bar = svg("rect", {
      x: i * each + each * 0.08, width: Math.max(0.4, each * 0.84), y: height - tall, height: tall,
      class: `${classes[i] || ""}${i === chosen ? " chosen" : ""}`,
    });
    if (titles[i]) bar.append(svg("title", {}, titles[i]));
    if (onchoose) {
      const target = svg("rect", { x: i * each, width: each, y: 0, height, class: "target" });
      target.addEventListener("click", () => onchoose(i));
      if (titles[i]) target.append(svg("title", {}, titles[i]));
      chart.append(bar, target);
    } else chart.append(bar);
  });
  return chart;
}

// A table from rows of cells; the first row is the head.
function table(head, rows, attributes = {}) {
  return el("div", { class: "scroll" }, el("table", attributes,
    el("thead", {}, el("tr", {}, head.map((cell) => el("th", {}, cell)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell)))))));
}
