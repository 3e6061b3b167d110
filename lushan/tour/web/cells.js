// The panel that opens when a cell of a map is clicked: its arithmetic, added up again right here.

const MOST_PRODUCTS = 8; // that are listed, the largest first
const opened = { layer: null, k: 0, row: 0, column: 0, number: null };

// Opens the panel for channel k of a layer at (row, column) of the whole map.
function openCell(layer, k, row, column) {
  const [top, left, bottom, right] = layer.crop;
  opened.layer = layer;
  opened.k = k;
  opened.row = Math.max(top, Math.min(bottom - 1, row));
  opened.column = Math.max(left, Math.min(right - 1, column));
  opened.number = arithmetic(layer, k, opened.row, opened.column);
  showCell();
  tell("cell");
}

function closeCell() {
  document.getElementById("cell").hidden = true;
  document.body.classList.remove("with-cell");
}

// A canvas of one map that opens the panel; `step` keys move the cell.
function mapCanvas(layer, k, attributes = {}) {
  const [, height, width] = layer.maps.shape;
  const target = drawMap(canvas(width, height, { class: "map pixelated", tabindex: 0, role: "button", ...attributes }),
    plane(layer.maps, k), width, height);
  sayAttribute(target, "aria-label", "cell.map", { node: layer.node, channel: layer.channels[k].channel });
  const choose = (row, column) => openCell(layer, k, row + layer.crop[0], column + layer.crop[1]);
  target.addEventListener("click", (event) => choose(...placeOn(target, event)));
  target.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const same = opened.layer === layer && opened.k === k;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      openCell(layer, k, layer.channels[k].row, layer.channels[k].column);
    } else if (moves[event.key] && same) {
      event.preventDefault();
      openCell(layer, k, opened.row + moves[event.key][0], opened.column + moves[event.key][1]);
    }
  });
  return target;
}

function showCell() {
  const { layer, k, row, column } = opened;
  const panel = document.getElementById("cell");
  const refocus = panel.contains(document.activeElement) && document.activeElement.tagName === "CANVAS";
  const [top, left, bottom, right] = layer.crop;
  const map = mapCanvas(layer, k);
  const holder = el("div", { class: "over" }, map);
  frame(holder, [(row - top) / (bottom - top), (column - left) / (right - left), 1 / (bottom - top), 1 / (right - left)],
    { class: "frame cell-frame" });
  panel.replaceChildren(
    el("div", { class: "panel-head" },
      el("h3", {}, `${layer.node}[${row}, ${column}, ${layer.channels[k].channel}]`),
      button("close", closeCell, { class: "close" })),
    holder,
    layer.overviews ? said("p", "cell.part", { rows: `${top}–${bottom - 1}`, columns: `${left}–${right - 1}`, shape: shape(layer.shape) }, { class: "note" }) : "",
    said("p", "cell.move", {}, { class: "note" }),
    arithmeticView(opened.number));
  panel.hidden = false;
  document.body.classList.add("with-cell");
  if (refocus) map.focus({ preventScroll: true });
}

// One line of the sum: a name, a number and the exact number behind it.
function line(key, number, name, digits = 9, values = {}) {
  return el("tr", {}, said("td", key, values),
    el("td", { class: "number", "data-name": name, "data-exact": String(number) }, short(number, digits)));
}

function arithmeticView(found) {
  const { recipe } = found.layer;
  const rows = [line("cell.sum", found.sum, "sum", 9, { count: found.products.length }), line("cell.bias", found.bias, "bias")];
  if (found.shortcut !== null) rows.push(line("cell.shortcut", found.shortcut, "shortcut", 9, { node: recipe.shortcut.node }));
  rows.push(line("cell.before", found.before, "before"));
  if (recipe.activation !== "none") rows.push(line("cell.value", found.value, "value", 9, { activation: recipe.activation }));
  else rows.push(line("cell.plain", found.value, "value"));
  rows.push(
    line("cell.displayed", found.displayed, "displayed"),
    line("cell.deviation", found.deviation, "deviation", 3),
    line("cell.running", found.running - found.value, "running", 3));
  return el("div", { class: "arithmetic", "data-value": String(found.value), "data-displayed": String(found.displayed) },
    windowView(found),
    el("table", { class: "sum" }, el("tbody", {}, rows)),
    said("p", "cell.magnitude", { magnitude: short(found.magnitude, 4) }, { class: "note" }));
}

// The window: all numbers of few channels, else what each pixel adds and the largest products.
function windowView(found) {
  const { KH, KW, IC, cut, kernel, products, inside, layer } = found;
  const view = el("div", { class: "window" });
  view.append(said("p", "cell.window", {
    kernel: `${KH}×${KW}×${IC}`, source: layer.recipe.source.node, row: found.startRow, column: found.startColumn,
  }));
  if (IC <= 3) {
    const pick = (values, c) => Array.from({ length: KH * KW }, (_, i) => values[i * IC + c]);
    const names = ["red", "green", "blue"];
    for (let c = 0; c < IC; c += 1) {
      view.append(el("details", { open: c === 0 }, said("summary", IC === 3 ? `colour.${names[c]}` : "cell.channel", { channel: c }),
        el("div", { class: "grids" },
          gridFigure("cell.numbers", numberGrid(pick(cut, c), KH, KW, { inside })),
          gridFigure("cell.kernel", numberGrid(pick(kernel, c), KH, KW)),
          gridFigure("cell.products", numberGrid(pick(products, c), KH, KW, { inside })))));
    }
    return view;
  }
  if (KH * KW > 1) {
    const each = Array.from({ length: KH * KW }, (_, i) => exactSum(products.subarray(i * IC, (i + 1) * IC)));
    view.append(gridFigure("cell.pixels", numberGrid(each, KH, KW, { inside, digits: 3 }), { count: IC }));
  }
  const order = Array.from(products.keys()).sort((a, b) => Math.abs(products[b]) - Math.abs(products[a]));
  const listed = order.slice(0, MOST_PRODUCTS).map((i) => [
    `[${Math.floor(i / IC / KW)}, ${Math.floor(i / IC) % KW}, ${i % IC}]`,
    short(cut[i], 4), "×", short(kernel[i], 4), "=", short(products[i], 4)]);
  view.append(
    table([said("span", "cell.place"), said("span", "cell.numbers"), "", said("span", "cell.kernel"), "", said("span", "cell.products")],
      listed, { class: "products" }),
    said("p", "cell.more", { shown: listed.length, count: whole(products.length) }, { class: "note" }));
  return view;
}

function gridFigure(key, grid, values = {}) {
  return el("figure", { class: "grid-figure" }, said("figcaption", key, values), grid);
}
