// Consolidated lung by its place in the rib cage, and domes of the diaphragm: ct/lungs/dense.py, domes.py, rib_cage.py.
import {
  accumulate, and, any, convexHull, count, CROSS, dilate, distance, erode, EVERY_NEIGHBOUR, fillHoles, IN_PLANE, label, not,
  openByBall, or, planeOf, PLANE_CROSS, sizes, without,
} from "./masks.js";
import { LEFT, RIGHT } from "./sides.js";

const LEAST_HEIGHT_MM = 60, COARSEST_PIXEL_MM = 7, LEAST_BONE_MM2 = 1000;
const AERATED_BELOW_HU = -150, EDGE_BELOW_HU = -40, THIN_MM = 5, THIN_GAP_MM = 10, GAP_BALL_MM = 26;
const LOBE_SHARE = 0.8, LOBE_BALL_MM = 22, TOUCHING_SHARE = 0.25, SMOOTH_BORDER_MM = 12, BORDER_REACH_MM = [30, 15];
const BORDER_PERCENTILE = 40, DOME_BALL_MM = 45, BONE_ABOVE_HU = 120, BODY_ABOVE_HU = -400, SMALLEST_BONE_ML = 3, BALL_MM = 30;

const of = (array, side) => Uint8Array.from(array, (value) => (value === side ? 1 : 0));
export const nothingBelow = (lung, shape) => not(accumulate(lung, shape, 0, false));

export function underDomes(sides, shape, spacing) {
  const domes = new Uint8Array(sides.length);
  for (const side of [RIGHT, LEFT]) {
    const lung = of(sides, side);
    const smooth = openByBall(nothingBelow(lung, shape), shape, DOME_BALL_MM, spacing);
    const beside = accumulate(lung, shape, 2, side === LEFT), behind = accumulate(lung, shape, 1, true);
    const between = and(and(smooth, beside), behind);
    for (let z = 0; z < shape[0]; z++) {
      const plane = planeOf(between, shape, z);
      if (!any(plane)) continue;
      const target = planeOf(domes, shape, z);
      target.set(or(target, and(convexHull(plane, [1, shape[1], shape[2]]), planeOf(smooth, shape, z))));
    }
  }
  return domes;
}

function bonesOf(hu, shape, spacing) {
  const { labels, parts } = label(Uint8Array.from(hu, (value) => (value > BONE_ABOVE_HU ? 1 : 0)), shape, true);
  const voxels = sizes(labels, parts), voxelMl = (spacing[0] * spacing[1] * spacing[2]) / 1000;
  return Uint8Array.from(labels, (part) => (part && voxels[part] * voxelMl >= SMALLEST_BONE_ML ? 1 : 0));
}

function bodyOf(hu, shape) {
  const body = Uint8Array.from(hu, (value) => (value > BODY_ABOVE_HU ? 1 : 0)), flat = [1, shape[1], shape[2]];
  for (let z = 0; z < shape[0]; z++) {
    let plane = planeOf(body, shape, z).slice();
    for (const step of [dilate, dilate, erode, erode]) plane = step(plane, flat, PLANE_CROSS);
    planeOf(body, shape, z).set(fillHoles(plane, flat));
  }
  return body;
}

function insideRibs(soft, lung, shape, spacing) {
  const [Z, Y, X] = shape, flat = [1, Y, X];
  const reached = or(lung, openByBall(soft, shape, BALL_MM, spacing));
  const rows = new Set();
  for (let i = 0; i < lung.length; i++) if (lung[i]) rows.add(Math.floor(i / X) % Y);
  const middle = rows.size ? Math.floor((Math.min(...rows) + Math.max(...rows)) / 2) : 0;
  const cage = new Uint8Array(lung.length);
  for (let z = 0; z < Z; z++) {
    const seen = planeOf(lung, shape, z);
    if (!any(seen)) continue;
    const { labels } = label(planeOf(reached, shape, z), flat);
    const touched = new Set(labels.filter((_, i) => seen[i]));
    const around = Uint8Array.from(labels, (part) => (touched.has(part) ? 1 : 0));
    const outline = seen.map((value, i) => (value || (i >= middle * X && around[i]) ? 1 : 0));
    planeOf(cage, shape, z).set(and(around, convexHull(outline, flat)));
  }
  return cage;
}

export function denseLung(hu, sides, otherAir, shape, spacing, domes) {
  const [Z, Y, X] = shape, added = new Int8Array(sides.length);
  if (Z * spacing[0] < LEAST_HEIGHT_MM || Math.max(spacing[1], spacing[2]) > COARSEST_PIXEL_MM) return added;
  const aerated = Uint8Array.from(sides, (value) => (value ? 1 : 0));
  const bones = bonesOf(hu, shape, spacing);
  if ((count(bones) / Z) * spacing[1] * spacing[2] < LEAST_BONE_MM2) return added;
  const body = bodyOf(hu, shape), soft = without(body, bones);
  let cage = without(insideRibs(soft, aerated, shape, spacing), dilate(otherAir, shape, IN_PLANE));
  const depth = distance(body, shape, spacing);
  let least = Infinity;
  for (let i = 0; i < depth.length; i++) if (aerated[i] && depth[i] < least) least = depth[i];
  cage = cage.map((value, i) => (value && depth[i] >= least && !domes[i] ? 1 : 0));
  const average = uniform(Float32Array.from(hu, (value, i) => (soft[i] ? value : 0)), shape, spacing[0] < COARSEST_PIXEL_MM);
  const light = cage.map((value, i) => (value && !aerated[i] && average[i] < AERATED_BELOW_HU ? 1 : 0));
  const middle = middleOf(sides, X);
  for (const side of [RIGHT, LEFT]) {
    const half = cage.map((_, i) => ((side === RIGHT) === i % X < middle ? 1 : 0));
    const lung = or(of(sides, side), thick(and(light, half), THIN_MM, shape, spacing));
    const border = borderOf(lung, middle, shape, spacing);
    const seen = Array.from({ length: Z }, (_, z) => any(planeOf(lung, shape, z)));
    const place = cage.map((value, i) =>
      value && half[i] && Math.abs((i % X) - middle) >= border[Math.floor(i / X)] && seen[Math.floor(i / (X * Y))] ? 1 : 0);
    const tissue = without(without(soft, aerated), lung);
    const gaps = without(and(place, tissue), wide(tissue, place, domes, shape, spacing));
    let dense = without(or(lung, thick(gaps, THIN_GAP_MM, shape, spacing)), aerated);
    const edge = dilate(dense, shape, IN_PLANE);
    dense = dense.map((value, i) => (value || (edge[i] && place[i] && !aerated[i] && hu[i] < EDGE_BELOW_HU) ? 1 : 0));
    const kept = touching(dense, aerated, shape);
    for (let i = 0; i < added.length; i++) if (kept[i]) added[i] = side;
  }
  return added;
}

const thick = (mask, radius, shape, spacing) => openByBall(mask, shape, Math.max(radius, 1.01 * spacing[1]), spacing);

function wide(tissue, place, domes, shape, spacing) {
  const mask = openByBall(tissue, shape, GAP_BALL_MM, spacing);
  const pieces = openByBall(without(mask, domes), shape, LOBE_BALL_MM, spacing);
  const share = shareOfParts(pieces, place, shape);
  return mask.map((value, i) => (value && share[i] < LOBE_SHARE ? 1 : 0));
}

function touching(dense, aerated, shape) {
  const surface = without(dense, erode(dense, shape, CROSS));
  const share = shareOfParts(dense, dilate(aerated, shape, EVERY_NEIGHBOUR), shape, surface);
  return dense.map((value, i) => (value && share[i] >= TOUCHING_SHARE ? 1 : 0));
}

function shareOfParts(mask, inside, shape, counted = mask) {
  const { labels, parts } = label(mask, shape);
  const total = sizes(labels, parts, counted), within = sizes(labels, parts, and(counted, inside));
  return Float64Array.from(labels, (part) => within[part] / Math.max(total[part], 1));
}

function middleOf(sides, X) {
  const right = new Float64Array(X), left = new Float64Array(X);
  for (let i = 0; i < sides.length; i++) if (sides[i]) (sides[i] === RIGHT ? right : left)[i % X]++;
  const all = right.reduce((a, b) => a + b, 0), wrong = [all];
  for (let x = 0, r = 0, l = 0; x < X; x++) wrong.push(all - (r += right[x]) + (l += left[x]));
  const least = Math.min(...wrong), best = wrong.flatMap((value, i) => (value === least ? [i] : []));
  return best[Math.floor(best.length / 2)] - 0.5;
}

const reflect = (i, n) => {
  const period = 2 * n, at = ((i % period) + period) % period;
  return at < n ? at : period - 1 - at;
};

function uniform(values, [Z, Y, X], alongZ) {
  let out = values;
  for (const [stride, length] of [...(alongZ ? [[Y * X, Z]] : []), [X, Y], [1, X]]) {
    const next = new Float32Array(out.length);
    for (let i = 0; i < out.length; i++) {
      const at = Math.floor(i / stride) % length;
      next[i] = (out[i + (reflect(at - 1, length) - at) * stride] + out[i] + out[i + (reflect(at + 1, length) - at) * stride]) / 3;
    }
    out = next;
  }
  return out;
}

function gaussian(values, [Z, Y], sigmas) {
  let out = values;
  [[Y, Z, sigmas[0]], [1, Y, sigmas[1]]].forEach(([stride, length, sigma]) => {
    const radius = Math.trunc(4 * sigma + 0.5), kernel = [];
    for (let d = -radius; d <= radius; d++) kernel.push(Math.exp((-0.5 * d * d) / (sigma * sigma)));
    const sum = kernel.reduce((a, b) => a + b, 0), next = new Float64Array(out.length);
    for (let i = 0; i < out.length; i++) {
      const at = Math.floor(i / stride) % length;
      for (let d = -radius; d <= radius; d++)
        if (at + d >= 0 && at + d < length) next[i] += (kernel[d + radius] / sum) * out[i + d * stride];
    }
    out = next;
  });
  return out;
}

/** Columns between the middle and the lung (Z, Y), guessed where a row shows none or too many. */
function borderOf(lung, middle, [Z, Y, X], spacing) {
  const nearest = new Float64Array(Z * Y).fill(Infinity);
  for (let i = 0; i < lung.length; i++) {
    const row = Math.floor(i / X);
    if (lung[i]) nearest[row] = Math.min(nearest[row], Math.abs((i % X) - middle));
  }
  const seen = Float64Array.from(nearest, (value) => (isFinite(value) ? 1 : 0));
  const known = nearest.map((value) => (isFinite(value) ? value : 0));
  const values = new Float64Array(Z * Y), weights = new Float64Array(Z * Y);
  for (const [scale, weight] of [[1, 1], [4, 1e-6]]) {
    const sigmas = [0, 1].map((d) => (scale * SMOOTH_BORDER_MM) / spacing[d]);
    const a = gaussian(known, [Z, Y], sigmas), b = gaussian(seen, [Z, Y], sigmas);
    for (let i = 0; i < values.length; i++) (values[i] += weight * a[i]), (weights[i] += weight * b[i]);
  }
  const border = nearest.map((value, i) => (seen[i] ? value : weights[i] > 1e-12 ? values[i] / weights[i] : Infinity));
  const [rz, ry] = BORDER_REACH_MM.map((reach, d) => Math.round(reach / spacing[d]));
  const around = new Float64Array((2 * rz + 1) * (2 * ry + 1));
  const rank = Math.trunc((around.length * BORDER_PERCENTILE) / 100);
  return border.map((value, i) => {
    const z = Math.floor(i / Y), y = i % Y;
    let n = 0;
    for (let dz = -rz; dz <= rz; dz++) for (let dy = -ry; dy <= ry; dy++) around[n++] = border[reflect(z + dz, Z) * Y + reflect(y + dy, Y)];
    return Math.min(value, around.slice().sort()[rank]);
  });
}
