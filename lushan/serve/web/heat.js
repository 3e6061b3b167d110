// A heat map over a picture: the numbers are stretched smoothly, and only then coloured.

// From dark to bright: readable in grey too, and to people who see few colours.
const COLOURS = [
  [56, 20, 110],
  [122, 24, 128],
  [188, 42, 96],
  [232, 84, 48],
  [250, 148, 36],
  [252, 210, 88],
  [255, 250, 210],
];
const SIDE = 160; // pixels of the drawing; the browser stretches it over the picture

// Return whether any number is above 0; only those speak for the class.
export const hasHeat = (values) => values.some((row) => row.some((value) => value > 0));

// Draw `values` [rows][columns] over the part `seen` of the picture: left, top, right, bottom.
export function drawHeat(canvas, values, seen) {
  const [left, top, right, bottom] = seen;
  Object.assign(canvas.style, {
    left: `${100 * left}%`,
    top: `${100 * top}%`,
    width: `${100 * (right - left)}%`,
    height: `${100 * (bottom - top)}%`,
  });
  canvas.width = canvas.height = SIDE;
  const most = Math.max(...values.flat());
  const context = canvas.getContext("2d");
  const image = context.createImageData(SIDE, SIDE);
  for (let y = 0; y < SIDE; y += 1) {
    for (let x = 0; x < SIDE; x += 1) {
      const value = most > 0 ? between(values, (y + 0.5) / SIDE, (x + 0.5) / SIDE) / most : 0;
      image.data.set(colour(value), 4 * (y * SIDE + x));
    }
  }
  context.putImageData(image, 0, 0);
}

// The value at a place (parts of height and width), between those of the nearest four cells.
function between(values, down, across) {
  const [y, x] = [down * values.length - 0.5, across * values[0].length - 0.5];
  const [row, column] = [Math.floor(y), Math.floor(x)];
  const at = (r, c) =>
    Math.max(0, values[clamp(r, values.length - 1)][clamp(c, values[0].length - 1)]);
  const above = mix(at(row, column), at(row, column + 1), x - column);
  const below = mix(at(row + 1, column), at(row + 1, column + 1), x - column);
  return mix(above, below, y - row);
}

const clamp = (value, most) => Math.min(Math.max(value, 0), most);
const mix = (a, b, part) => a + (b - a) * part;

// The colour of a value from 0 to 1: red, green, blue and how much of it there is.
function colour(value) {
  const place = clamp(value, 1) * (COLOURS.length - 1);
  const index = Math.min(Math.floor(place), COLOURS.length - 2);
  const [low, high] = [COLOURS[index], COLOURS[index + 1]];
  return [0, 1, 2]
    .map((part) => mix(low[part], high[part], place - index))
    .concat(255 * Math.sqrt(clamp(value, 1)));
}
