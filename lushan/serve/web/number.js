// One number of the network, opened: the products it is the sum of.

import { explain, Refusal } from "./api.js";
import { element, say } from "./dom.js";
import { text } from "./texts.js";

const PRODUCTS = 8;
const OPENABLE = new Set(["convolution", "linear", "activation", "residual_addition", "batch_norm"]);

// Return a form that asks for a number of the picture `id`, and shows what it was made of.
export function numberPanel(id) {
  const layer = element("select", {});
  const [channel, row, column] = [1, 2, 3].map(() =>
    element("input", { type: "number", min: 0, value: 0, inputMode: "numeric", required: true }));
  const result = element("div", { className: "result" });
  const button = element("button", { type: "submit", textContent: text("open"), disabled: true });
  const form = element("form", { className: "number-form" },
    field("layer", layer), field("channel", channel), field("row", row), field("column", column),
    button);
  let layers = [];

  const chosen = () => layers.find(({ name }) => name === layer.value);
  const limit = () => {
    const shape = chosen().shape;
    const places = shape.length === 3 ? shape : [0, 0, shape[0]];
    [row, column, channel].forEach((input, axis) => {
      input.disabled = !places[axis];
      input.max = Math.max(0, places[axis] - 1);
      input.value = Math.min(Number(input.value), Number(input.max));
    });
  };
  layer.onchange = limit;
  form.onsubmit = async (event) => {
    event.preventDefault();
    const place = row.disabled ? {} : { row: row.value, column: column.value };
    await attempt(result, async () => {
      const asked = { layer: layer.value, channel: channel.value, ...place };
      result.replaceChildren(...told(await explain(id, "arithmetic", asked)));
      say(result.querySelector("dd:last-of-type")?.textContent ?? "");
    });
  };
  attempt(result, async () => {
    ({ layers } = await explain(id, "layers"));
    layers = layers.filter(({ operator }) => OPENABLE.has(operator) || operator.includes("pool"));
    layer.replaceChildren(...layers.map(({ name, shape }) =>
      element("option", { value: name }, `${name}  ${shape.join(" × ")}`)));
    button.disabled = false;
    limit();
  });
  return element("div", {}, element("p", { className: "small" }, text("numberHint")), form, result);
}

async function attempt(result, work) {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    result.replaceChildren(
      element("p", { className: "wrong" }, [error.message, error.detail].join(" ")));
    say(error.message);
  }
}

const field = (name, input) => element("label", { className: "field" }, text(name), input);

function told(cell) {
  const products = [];
  cell.products.forEach((line, y) => line.forEach((pixel, x) => pixel.forEach((product, k) => {
    if (cell.inside[y][x]) products.push({ y, x, k, product });
  })));
  const rows = [
    [text("sumOfProducts", { count: products.length }), cell.sum_of_products],
    [text("bias"), cell.bias],
  ];
  if (cell.shortcut !== null) {
    rows.push([text("shortcut", { layer: cell.shortcut_layer }), cell.shortcut]);
  }
  rows.push([text("beforeActivation"), cell.before_activation]);
  if (cell.activation !== "none") {
    rows.push([text("activation", { activation: cell.activation }), cell.value]);
  }
  rows.push([text("displayed"), cell.displayed], [text("deviation"), cell.deviation]);
  const sum = element("dl", { className: "sum" }, ...rows.flatMap(([name, value]) =>
    [element("dt", {}, name), element("dd", {}, number(value))]));
  products.sort((a, b) => Math.abs(b.product) - Math.abs(a.product));
  const head = [text("place", { source: cell.source }), text("value"), text("weight"),
    text("product")];
  const table = element("table", {},
    element("caption", {}, text("strongest")),
    element("thead", {}, element("tr", {}, ...head.map((name) =>
      element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...products.slice(0, PRODUCTS).map(({ y, x, k, product }) =>
      element("tr", {},
        element("td", {}, `${cell.top + y}, ${cell.left + x}, ${k}`),
        element("td", {}, number(cell.window[y][x][k])),
        element("td", {}, number(cell.kernel[y][x][k])),
        element("td", {}, number(product))))));
  return [sum, element("div", { className: "scroll", tabIndex: 0 }, table)];
}

function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const short = size >= 1e-3 && size < 1e6 ? value.toPrecision(6) : value.toExponential(3);
  return short.replace("-", "−");
}
