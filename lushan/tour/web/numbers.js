// Numbers: arrays that travelled, exact sums, and the arithmetic of one activation.

const decoded = new WeakMap();
const ARRAYS = { f4: Float32Array, u1: Uint8Array, i4: Int32Array };

// Returns the typed array of a blob; decoded when it is first asked for.
function numbers(blob) {
  let array = decoded.get(blob);
  if (!array) {
    const text = atob(blob.data);
    const raw = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) raw[i] = text.charCodeAt(i);
    array = new ARRAYS[blob.type](raw.buffer);
    decoded.set(blob, array);
  }
  return array;
}

// Returns plane k [h, w] of a blob [K, h, w], as a view.
function plane(blob, k) {
  const [, height, width] = blob.shape;
  return numbers(blob).subarray(k * height * width, (k + 1) * height * width);
}

// Returns the sum, rounded once (Shewchuk 1997): what float64 can say at best.
function exactSum(terms) {
  const partials = [];
  for (let x of terms) {
    let count = 0;
    for (let y of partials) {
      if (Math.abs(x) < Math.abs(y)) [x, y] = [y, x];
      const high = x + y;
      const low = y - (high - x);
      if (low) partials[count++] = low;
      x = high;
    }
    partials.length = count;
    partials.push(x);
  }
  let n = partials.length;
  if (!n) return 0;
  let high = partials[--n];
  let low = 0;
  while (n > 0) {
    const x = high;
    const y = partials[--n];
    high = x + y;
    low = y - (high - x);
    if (low) break;
  }
  // Halves go to the even number unless more is left on the same side.
  if (n > 0 && ((low < 0 && partials[n - 1] < 0) || (low > 0 && partials[n - 1] > 0))) {
    const twice = low * 2;
    const moved = high + twice;
    if (twice === moved - high) high = moved;
  }
  return high;
}

function activate(name, slope, x) {
  if (name === "sigmoid") return x > -700 ? 1 / (1 + Math.exp(-x)) : 0;
  if (name === "tanh") return Math.tanh(x);
  if (name === "none" || x > 0) return x;
  return name === "leaky_relu" || name === "prelu" ? slope * x : 0;
}

// The picture's number at a place, as the network gets it: each step rounded to float32.
function normalized(row, column, channel) {
  const [, width] = data.preprocessing.size;
  const value = numbers(data.pixels)[(row * width + column) * 3 + channel];
  const { mean, std } = data.preprocessing;
  const f = Math.fround;
  return f(f(f(value / 255) - f(mean[channel])) / f(std[channel]));
}

// Returns the window of a layer's recipe at a place: numbers [KH·KW·IC] and which pixels lie inside.
function windowAt(layer, k, row, column) {
  const { source, stride, padding, dilation, kernels, first } = layer.recipe;
  const [, KH, KW, IC] = kernels.shape;
  const [height, width, channels] = source.shape;
  const [top, left, , right] = source.crop;
  const values = source.values && numbers(source.values);
  const cut = new Float32Array(KH * KW * IC);
  const inside = new Array(KH * KW).fill(false);
  const startRow = row * stride[0] - padding[0];
  const startColumn = column * stride[1] - padding[1];
  for (let i = 0; i < KH; i += 1) {
    for (let j = 0; j < KW; j += 1) {
      const y = startRow + i * dilation[0];
      const x = startColumn + j * dilation[1];
      if (y < 0 || x < 0 || y >= height || x >= width) continue;
      inside[i * KW + j] = true;
      const place = ((y - top) * (right - left) + (x - left)) * channels + first[k];
      for (let c = 0; c < IC; c += 1) {
        cut[(i * KW + j) * IC + c] = values ? values[place + c] : normalized(y, x, c);
      }
    }
  }
  return { cut, inside, startRow, startColumn };
}

// Returns the arithmetic of channel k of a layer at (row, column) of the whole map.
function arithmetic(layer, k, row, column) {
  const recipe = layer.recipe;
  const [, KH, KW, IC] = recipe.kernels.shape;
  const size = KH * KW * IC;
  const kernel = numbers(recipe.kernels).subarray(k * size, (k + 1) * size);
  const { cut, inside, startRow, startColumn } = windowAt(layer, k, row, column);
  const products = new Float64Array(size);
  let running = Math.fround(0);
  for (let i = 0; i < size; i += 1) {
    products[i] = cut[i] * kernel[i];
    running = Math.fround(running + Math.fround(products[i]));
  }
  const [top, left, , right] = layer.crop;
  const cell = (row - top) * (right - left) + (column - left);
  const bias = recipe.biases[k];
  const shortcut = recipe.shortcut ? plane(recipe.shortcut.maps, k)[cell] : null;
  const terms = [...products, bias, shortcut ?? 0];
  const before = exactSum(terms);
  running = Math.fround(Math.fround(running + bias) + (shortcut ?? 0));
  const displayed = plane(layer.maps, k)[cell];
  const value = activate(recipe.activation, recipe.slopes[k], before);
  return {
    layer, k, row, column, KH, KW, IC, startRow, startColumn, cut, kernel, inside, products, bias,
    shortcut, before, value, displayed,
    sum: exactSum(products),
    deviation: displayed - value,
    running: activate(recipe.activation, recipe.slopes[k], running),
    magnitude: exactSum(terms.map(Math.abs)),
  };
}

// Returns softmax, made stable: the greatest score is taken off first, which changes nothing.
function softmax(scores) {
  const most = Math.max(...scores);
  const powers = Array.from(scores, (score) => Math.exp(score - most));
  const total = exactSum(powers);
  return { most, powers, total, probabilities: powers.map((power) => power / total) };
}
