// Lungs by classical image processing: ct/lungs/classical.py and airways.py, voxel by voxel. Tests hold the two together.
import {
  accumulate, and, any, closeByDisk, crop, dilate, distance, erode, IN_PLANE, label, or, percentile, planeOf, PLANE_CROSS,
  sizes, without,
} from "./masks.js";
import { AIR_HU, coarserGrid } from "./resample.js";
import { leftRight, LEFT, RIGHT } from "./sides.js";
import { denseLung, nothingBelow, underDomes } from "./dense.js";

const AIR_BELOW_HU = -400, WORK_MM = [2, 1.6, 1.6], COARSE_MM = [4, 4, 4], FINE_PIXEL_MM = 2.4;
const CLOSING_MM = 14, MEDIAL_CLOSING_MM = 10, AIRWAY_WALL_MM = 2;
const OUTSIDE_BELOW_HU = -925, OUTSIDE_PERCENTILE = 75, GAS_BELOW_HU = -910, SECOND_LUNG_SHARE = 0.15;
const TRACHEA_MM2 = [50, 700], LARGEST_MM2 = 1000, OFF_CENTRE_MM = 35;
const CHEST_CM2 = 40, BASES_LITRES = 1, VISIBLE_CM2 = 5, ONLY_GAS_BELOW_HU = -950;

/** Find the lungs of a scan: Uint8Array (Z, Y, X), empty where there are none. */
export function classicalLungs(hu, shape, spacing, progress = () => {}) {
  const work = coarserGrid(shape, spacing, WORK_MM);
  const small = work.applyHu(hu);
  progress(0.2);
  const lungs = lungsOnGrid(small, work.shape, work.spacing, progress);
  return work.restoreMask(lungs);
}

function lungsOnGrid(hu, shape, spacing, progress) {
  const smooth = spacing[1] < FINE_PIXEL_MM ? median(hu, shape) : hu;
  const inner = innerAir(smooth, shape);
  const airways = findAirways(inner, shape, spacing);
  const { lungs, gas } = lungsAndGas(without(inner, airways), smooth, shape);
  progress(0.4);
  if (!any(lungs)) return lungs;
  const sides = leftRight(lungs, shape, spacing);
  let domes = withDenseLung(hu, sides, or(gas, airways), shape, spacing);
  progress(0.8);
  const below = nothingBelow(lungs, shape);
  domes = domes.map((value, i) => (value && below[i] && sides[i] === 0 ? 1 : 0));
  const flat = [1, shape[1], shape[2]];
  for (let z = 0; z < shape[0]; z++) {
    const plane = planeOf(sides, shape, z), airway = planeOf(airways, shape, z);
    const [right, left] = [RIGHT, LEFT].map((side) =>
      closed(Uint8Array.from(plane, (value) => (value === side ? 1 : 0)), side === RIGHT, flat, spacing));
    let lung = without(or(right, left), planeOf(domes, shape, z));
    if (any(airway)) {
      const far = distance(airway.map((value) => 1 - value), flat, [1, spacing[1], spacing[2]]);
      lung = lung.map((value, i) => (value && far[i] > AIRWAY_WALL_MM ? 1 : 0));
    }
    planeOf(lungs, shape, z).set(lung);
  }
  return lungs;
}

function closed(lung, isRight, flat, spacing) {
  const [wide, narrow] = [CLOSING_MM, MEDIAL_CLOSING_MM].map((mm) => closeByDisk(lung, flat, [mm / spacing[1], mm / spacing[2]]));
  return or(narrow, and(wide, accumulate(lung, flat, 2, isRight)));
}

function withDenseLung(hu, sides, otherAir, shape, spacing) {
  const coarse = coarserGrid(shape, spacing, COARSE_MM);
  const shrink = (mask) => Uint8Array.from(coarse.applyHu(Int16Array.from(mask, (v) => 1000 * v)), (v) => (v >= 500 ? 1 : 0));
  const coarseSides = new Int8Array(coarse.shape[0] * coarse.shape[1] * coarse.shape[2]);
  for (const side of [RIGHT, LEFT]) {
    const mask = shrink(Uint8Array.from(sides, (value) => (value === side ? 1 : 0)));
    for (let i = 0; i < mask.length; i++) if (mask[i]) coarseSides[i] = side;
  }
  const domes = underDomes(coarseSides, coarse.shape, coarse.spacing);
  const dense = denseLung(coarse.applyHu(hu), coarseSides, shrink(otherAir), coarse.shape, coarse.spacing, domes);
  for (const side of [RIGHT, LEFT]) {
    const more = coarse.restoreMask(Uint8Array.from(dense, (value) => (value === side ? 1 : 0)));
    for (let i = 0; i < sides.length; i++) if (more[i] && sides[i] === 0) sides[i] = side;
  }
  return coarse.restoreMask(dilate(domes, coarse.shape));
}

function median(hu, [Z, Y, X]) {
  const out = new Int16Array(hu.length), nine = new Int16Array(9);
  for (let z = 0; z < Z; z++)
    for (let y = 0; y < Y; y++)
      for (let x = 0; x < X; x++) {
        let n = 0;
        for (let dy = -1; dy <= 1; dy++)
          for (let dx = -1; dx <= 1; dx++) {
            const ny = Math.min(Math.max(y + dy, 0), Y - 1), nx = Math.min(Math.max(x + dx, 0), X - 1);
            nine[n++] = hu[(z * Y + ny) * X + nx];
          }
        out[(z * Y + y) * X + x] = nine.sort()[4];
      }
  return out;
}

function innerAir(smooth, shape) {
  const [Z, Y, X] = shape, air = Uint8Array.from(smooth, (value) => (value < AIR_BELOW_HU ? 1 : 0));
  for (let z = 0; z < Z; z++) {
    const plane = planeOf(air, shape, z), values = planeOf(smooth, shape, z);
    const { labels } = label(plane, [1, Y, X]);
    const border = new Set();
    for (let x = 0; x < X; x++) border.add(labels[x]).add(labels[(Y - 1) * X + x]);
    for (let y = 0; y < Y; y++) border.add(labels[y * X]).add(labels[y * X + X - 1]);
    border.delete(0);
    const corners = new Set([0, X - 1, (Y - 1) * X, Y * X - 1].map((i) => labels[i]));
    const outside = new Set(
      [...border].filter((part) => corners.has(part) || percentile(values.filter((_, i) => labels[i] === part), OUTSIDE_PERCENTILE) < OUTSIDE_BELOW_HU));
    for (let i = 0; i < plane.length; i++) if (outside.has(labels[i])) plane[i] = 0;
  }
  return air;
}

function findAirways(air, shape, spacing) {
  const [Z, Y, X] = shape, flat = [1, Y, X], pixel = spacing[1] * spacing[2], airways = new Uint8Array(air.length);
  let first = X, last = -1;
  for (let i = 0; i < air.length; i++) if (air[i]) (first = Math.min(first, i % X)), (last = Math.max(last, i % X));
  if (last < 0) return airways;
  const middle = (first + last) / 2;
  let above = new Uint8Array(Y * X), found = false;
  for (let z = Z - 1; z >= 0; z--) {
    const { labels, parts } = label(planeOf(air, shape, z), flat);
    const areas = sizes(labels, parts).map((voxels) => voxels * pixel);
    let chosen;
    if (any(above)) {
      const near = dilate(above, flat, PLANE_CROSS);
      chosen = new Set(labels.filter((part, i) => near[i] && part && areas[part] <= LARGEST_MM2));
    } else {
      chosen = new Set();
      for (let part = 1; part <= parts; part++) if (isTrachea(labels, part, areas[part], middle, X, spacing)) chosen.add(part);
    }
    above = Uint8Array.from(labels, (part) => (chosen.has(part) ? 1 : 0));
    planeOf(airways, shape, z).set(above);
    if (any(above)) found = true;
    else if (found) break;
  }
  return airways;
}

function isTrachea(labels, part, area, middle, X, spacing) {
  if (area < TRACHEA_MM2[0] || area > TRACHEA_MM2[1]) return false;
  let [top, bottom, left, right, sum, n] = [Infinity, -1, Infinity, -1, 0, 0];
  for (let i = 0; i < labels.length; i++) {
    if (labels[i] !== part) continue;
    const y = Math.floor(i / X), x = i % X;
    (top = Math.min(top, y)), (bottom = Math.max(bottom, y)), (left = Math.min(left, x)), (right = Math.max(right, x));
    (sum += x), n++;
  }
  const height = (bottom - top + 1) * spacing[1], width = (right - left + 1) * spacing[2];
  const round = area > 0.5 * height * width && Math.max(height, width) <= 2.5 * Math.min(height, width);
  return round && Math.abs(sum / n - middle) * spacing[2] <= OFF_CENTRE_MM;
}

function lungsAndGas(air, smooth, shape) {
  const [Z, Y, X] = shape;
  const { labels, parts } = label(air, shape), voxels = sizes(labels, parts, air);
  const order = Array.from({ length: parts }, (_, i) => i + 1).sort((a, b) => voxels[b] - voxels[a]);
  const kept = new Set(), gas = new Set();
  let largest = 0;
  for (const part of order) {
    if (kept.size === 2 || (kept.size && voxels[part] < SECOND_LUNG_SHARE * largest)) break;
    const low = [Z, Y, X], high = [0, 0, 0];
    for (let i = 0; i < labels.length; i++)
      if (labels[i] === part)
        [Math.floor(i / (X * Y)), Math.floor(i / X) % Y, i % X].forEach((at, d) => {
          if (at < low[d]) low[d] = at;
          if (at + 1 > high[d]) high[d] = at + 1;
        });
    const box = crop(labels, shape, low, high), values = crop(smooth, shape, low, high).array;
    const inside = erode(Uint8Array.from(box.array, (value) => (value === part ? 1 : 0)), box.shape, IN_PLANE);
    const dense = any(inside) ? percentile(values.filter((_, i) => inside[i]), 90) : 0;
    if (dense < GAS_BELOW_HU) gas.add(part);
    else {
      if (!kept.size) largest = voxels[part];
      kept.add(part);
    }
  }
  const of = (chosen) => Uint8Array.from(labels, (part) => (chosen.has(part) ? 1 : 0));
  return { lungs: of(kept), gas: of(gas) };
}

/** Why a scan shows no chest, by the rules of ct/lungs/plausibility.py; empty where it does. */
export function whyNoChest(hu, lungs, [Z, Y, X], [zMm, yMm, xMm]) {
  const hint = "is it a chest CT in HU?";
  const voxels = Array.from({ length: Z }, (_, z) => planeOf(lungs, [Z, Y, X], z).reduce((a, b) => a + b, 0));
  const all = voxels.reduce((a, b) => a + b, 0);
  if (!all) return `no chest: no air-like lung was found; ${hint}`;
  const areas = voxels.map((n) => (n * yMm * xMm) / 100), litres = (all * zMm * yMm * xMm) / 1e6;
  const visible = areas.filter((area) => area >= VISIBLE_CM2).length, most = Math.max(...areas);
  const extent = `no chest: ${(1000 * litres).toFixed(0)} ml of air-like lung in ${visible} of ${Z} slices, at most ${most.toFixed(0)} cm2 in one`;
  if (most < CHEST_CM2) return `${extent}; expected at least ${CHEST_CM2} cm2; ${hint}`;
  if (litres < BASES_LITRES && 2 * visible < Z) return `${extent}; expected lung in half of the slices or at least 1 litre; ${hint}`;
  const median = percentile(hu.filter((_, i) => lungs[i]), 50);
  if (median < ONLY_GAS_BELOW_HU) return `${extent}, of ${median.toFixed(0)} HU, which is gas; ${hint}`;
  return "";
}

/** Why values are no HU of a chest; empty where they may be. The whole gate is that of ground-glass check. */
export function whyNoHu(hu) {
  let air = 0, soft = 0, dense = 0, low = Infinity, high = -Infinity;
  for (const value of hu) {
    if (value > AIR_HU && value <= -500) air++;
    if (value >= -200 && value <= 200) soft++;
    if (value > 1000) dense++;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const range = `values run from ${low} to ${high}`;
  if (air < 0.01 * hu.length) return `${range}, without air near -1000; expected Hounsfield units: export the scan in HU`;
  if (soft < 0.05 * hu.length) return `${range}, without soft tissue near 0; expected Hounsfield units: export the scan in HU`;
  if (dense > 0.05 * hu.length) return `${range}, and more than 5 % lie above 1000; expected a chest CT in Hounsfield units`;
  return "";
}
