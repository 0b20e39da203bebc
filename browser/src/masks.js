// Shapes of masks on grids (Z, Y, X), as scipy.ndimage and ct/mask_shapes.py have them. A mask is a Uint8Array of 0 and 1,
// x fastest; a shape is [Z, Y, X]. A plane is a mask with Z = 1.

export const count = (mask) => mask.reduce((sum, value) => sum + value, 0);
export const any = (mask) => mask.includes(1);
export const combine = (a, b, rule) => a.map((value, i) => (rule(value, b[i]) ? 1 : 0));
export const and = (a, b) => combine(a, b, (p, q) => p && q);
export const or = (a, b) => combine(a, b, (p, q) => p || q);
export const without = (a, b) => combine(a, b, (p, q) => p && !q);
export const not = (a) => a.map((value) => 1 - value);
export const planeOf = (array, [, Y, X], z) => array.subarray(z * Y * X, (z + 1) * Y * X);

/** Connected parts of a mask, by faces or (full) by corners too: Int32Array of 0 (none), 1, 2, ..., and their number. */
export function label(mask, [Z, Y, X], full = false) {
  const labels = new Int32Array(mask.length);
  const steps = [];
  for (let dz = -1; dz <= 1; dz++)
    for (let dy = -1; dy <= 1; dy++)
      for (let dx = -1; dx <= 1; dx++) {
        const far = Math.abs(dz) + Math.abs(dy) + Math.abs(dx);
        if (far === 1 || (full && far > 1)) steps.push([dz, dy, dx]);
      }
  const stack = new Int32Array(mask.length);
  let parts = 0;
  for (let start = 0; start < mask.length; start++) {
    if (!mask[start] || labels[start]) continue;
    parts++;
    let top = 0;
    stack[top++] = start;
    labels[start] = parts;
    while (top) {
      const at = stack[--top];
      const x = at % X, y = Math.floor(at / X) % Y, z = Math.floor(at / (X * Y));
      for (const [dz, dy, dx] of steps) {
        const nz = z + dz, ny = y + dy, nx = x + dx;
        if (nz < 0 || ny < 0 || nx < 0 || nz >= Z || ny >= Y || nx >= X) continue;
        const next = (nz * Y + ny) * X + nx;
        if (mask[next] && !labels[next]) {
          labels[next] = parts;
          stack[top++] = next;
        }
      }
    }
  }
  return { labels, parts };
}

export function sizes(labels, parts, counted = null) {
  const result = new Float64Array(parts + 1);
  for (let i = 0; i < labels.length; i++) if (!counted || counted[i]) result[labels[i]]++;
  return result;
}

/** Distance of every voxel of a mask to the nearest one outside it (Felzenszwalb and Huttenlocher), with voxel sizes. */
export function distance(mask, [Z, Y, X], [sz, sy, sx]) {
  const FAR = 1e20;
  const squared = Float64Array.from(mask, (value) => (value ? FAR : 0));
  const longest = Math.max(Z, Y, X);
  const f = new Float64Array(longest), place = new Int32Array(longest), edge = new Float64Array(longest + 1);
  const along = (length, stride, size, starts) => {
    if (length < 2) return;
    const s2 = size * size;
    for (const start of starts) {
      for (let q = 0; q < length; q++) f[q] = squared[start + q * stride];
      let k = -1;
      for (let q = 0; q < length; q++) {
        if (f[q] >= FAR) continue;
        let cut = -Infinity;
        while (k >= 0) {
          const p = place[k];
          cut = (f[q] - f[p] + s2 * (q * q - p * p)) / (2 * s2 * (q - p));
          if (cut > edge[k]) break;
          k--;
        }
        if (k < 0) cut = -Infinity;
        place[++k] = q;
        edge[k] = cut;
      }
      if (k < 0) continue;
      const last = k;
      k = 0;
      for (let q = 0; q < length; q++) {
        while (k < last && edge[k + 1] < q) k++;
        squared[start + q * stride] = s2 * (q - place[k]) ** 2 + f[place[k]];
      }
    }
  };
  const starts = (a, strideA, b, strideB) =>
    Int32Array.from({ length: a * b }, (_, i) => Math.floor(i / b) * strideA + (i % b) * strideB);
  along(X, 1, sx, starts(Z, Y * X, Y, X));
  along(Y, X, sy, starts(Z, Y * X, X, 1));
  along(Z, Y * X, sz, starts(Y, X, X, 1));
  return squared.map(Math.sqrt);
}

function boxOf(mask, [Z, Y, X]) {
  const low = [Z, Y, X], high = [0, 0, 0];
  for (let z = 0, i = 0; z < Z; z++)
    for (let y = 0; y < Y; y++)
      for (let x = 0; x < X; x++, i++)
        if (mask[i]) {
          const at = [z, y, x];
          for (let d = 0; d < 3; d++) {
            if (at[d] < low[d]) low[d] = at[d];
            if (at[d] + 1 > high[d]) high[d] = at[d] + 1;
          }
        }
  return high[0] ? { low, high } : null;
}

export function crop(array, [, Y, X], low, high) {
  const shape = high.map((end, d) => end - low[d]);
  const out = new array.constructor(shape[0] * shape[1] * shape[2]);
  for (let z = 0; z < shape[0]; z++)
    for (let y = 0; y < shape[1]; y++) {
      const from = ((z + low[0]) * Y + y + low[1]) * X + low[2];
      out.set(array.subarray(from, from + shape[2]), (z * shape[1] + y) * shape[2]);
    }
  return { array: out, shape };
}

function paste(target, [, Y, X], part, shape, low) {
  for (let z = 0; z < shape[0]; z++)
    for (let y = 0; y < shape[1]; y++)
      target.set(part.subarray((z * shape[1] + y) * shape[2], (z * shape[1] + y + 1) * shape[2]), ((z + low[0]) * Y + y + low[1]) * X + low[2]);
}

/** What a ball covers that stays inside the mask; the ends of the array do not stop the ball. */
export function openByBall(mask, shape, radius, spacing) {
  const opened = new Uint8Array(mask.length);
  const box = boxOf(mask, shape);
  if (!box) return opened;
  const low = box.low.map((start) => Math.max(start - 1, 0)), high = box.high.map((end, d) => Math.min(end + 1, shape[d]));
  const inside = crop(mask, shape, low, high);
  const whole = !inside.array.includes(0);
  const centres = whole
    ? inside.array
    : Uint8Array.from(distance(inside.array, inside.shape, spacing), (value) => (value > radius ? 1 : 0));
  if (!any(centres)) return opened;
  const reach = whole ? inside.array : Uint8Array.from(distance(not(centres), inside.shape, spacing), (value) => (value <= radius ? 1 : 0));
  paste(opened, shape, reach, inside.shape, low);
  return opened;
}

/** Close gaps of a plane narrower than twice the radius (in pixels, along y and x) and fill holes. */
export function closeByDisk(plane, [, Y, X], [ry, rx]) {
  const closed = new Uint8Array(plane.length);
  const box = boxOf(plane, [1, Y, X]);
  if (!box) return closed;
  const [py, px] = [Math.trunc(ry) + 2, Math.trunc(rx) + 2];
  const inside = crop(plane, [1, Y, X], box.low, box.high);
  const shape = [1, inside.shape[1] + 2 * py, inside.shape[2] + 2 * px];
  const padded = new Uint8Array(shape[1] * shape[2]);
  paste(padded, shape, inside.array, inside.shape, [0, py, px]);
  const scale = [1, 1 / ry, 1 / rx];
  const grown = Uint8Array.from(distance(not(padded), shape, scale), (value) => (value <= 1 ? 1 : 0));
  const shrunk = Uint8Array.from(distance(grown, shape, scale), (value, i) => (value > 1 || padded[i] ? 1 : 0));
  const filled = fillHoles(shrunk, shape);
  const back = crop(filled, shape, [0, py, px], [1, py + inside.shape[1], px + inside.shape[2]]);
  paste(closed, [1, Y, X], back.array, back.shape, box.low);
  return closed;
}

export function fillHoles(plane, [, Y, X]) {
  const { labels } = label(not(plane), [1, Y, X]);
  const outside = new Set();
  for (let x = 0; x < X; x++) outside.add(labels[x]).add(labels[(Y - 1) * X + x]);
  for (let y = 0; y < Y; y++) outside.add(labels[y * X]).add(labels[y * X + X - 1]);
  return plane.map((value, i) => (value || !outside.has(labels[i]) ? 1 : 0));
}

export const CROSS = [[0, 0, 0], [-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]];
export const PLANE_CROSS = CROSS.filter(([dz]) => dz === 0);
export const IN_PLANE = [-1, 0, 1].flatMap((dy) => [-1, 0, 1].map((dx) => [0, dy, dx]));
export const EVERY_NEIGHBOUR = [-1, 0, 1].flatMap((dz) => IN_PLANE.map(([, dy, dx]) => [dz, dy, dx]));

function morph(mask, [Z, Y, X], structure, wanted) {
  const out = new Uint8Array(mask.length);
  for (let z = 0, i = 0; z < Z; z++)
    for (let y = 0; y < Y; y++)
      for (let x = 0; x < X; x++, i++) {
        let found = false;
        for (const [dz, dy, dx] of structure) {
          const nz = z + dz, ny = y + dy, nx = x + dx;
          const inside = nz >= 0 && ny >= 0 && nx >= 0 && nz < Z && ny < Y && nx < X;
          if ((inside ? mask[(nz * Y + ny) * X + nx] : 0) === wanted) {
            found = true;
            break;
          }
        }
        out[i] = found === (wanted === 1) ? 1 : 0;
      }
  return out;
}
/** Dilation and erosion; outside of the array there is nothing. */
export const dilate = (mask, shape, structure = CROSS) => morph(mask, shape, structure, 1);
export const erode = (mask, shape, structure = CROSS) => morph(mask, shape, structure, 0);

/** The convex hull of the pixels' centres of a plane; the plane itself where they lie on one line. */
export function convexHull(plane, [, Y, X]) {
  const points = [];
  for (let x = 0; x < X; x++) {
    let first = -1, last = -1;
    for (let y = 0; y < Y; y++) if (plane[y * X + x]) { if (first < 0) first = y; last = y; }
    if (first >= 0) points.push([x, first]);
    if (last > first) points.push([x, last]);
  }
  const turn = (o, a, b) => (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]);
  const half = (sorted) => {
    const chain = [];
    for (const point of sorted) {
      while (chain.length > 1 && turn(chain.at(-2), chain.at(-1), point) <= 0) chain.pop();
      chain.push(point);
    }
    return chain.slice(0, -1);
  };
  const corners = [...half(points), ...half([...points].reverse())];
  if (corners.length < 3) return plane.slice();
  const edges = corners.map((a, i) => {
    const b = corners[(i + 1) % corners.length], length = Math.hypot(b[0] - a[0], b[1] - a[1]);
    return [(b[1] - a[1]) / length, -(b[0] - a[0]) / length, a];
  });
  const out = new Uint8Array(plane.length);
  for (let y = 0; y < Y; y++)
    for (let x = 0; x < X; x++)
      out[y * X + x] = edges.every(([nx, ny, a]) => nx * (x - a[0]) + ny * (y - a[1]) <= 1e-6) ? 1 : 0;
  return out;
}

/** numpy.percentile of numbers, by linear interpolation. */
export function percentile(values, share) {
  const sorted = Float64Array.from(values).sort();
  const at = (share / 100) * (sorted.length - 1), below = Math.floor(at), above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - below);
}

/** Whether a voxel or one before it along an axis is in the mask; backwards from the other end. */
export function accumulate(mask, [Z, Y, X], axis, backwards) {
  const out = mask.slice();
  const stride = [Y * X, X, 1][axis], length = [Z, Y, X][axis];
  for (let i = 0; i < mask.length; i++) {
    const j = backwards ? mask.length - 1 - i : i;
    const at = Math.floor(j / stride) % length;
    const before = backwards ? j + stride : j - stride;
    if ((backwards ? at < length - 1 : at > 0) && out[before]) out[j] = 1;
  }
  return out;
}
