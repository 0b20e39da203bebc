// Right and left lung, also where they touch: ct/lungs/sides.py.
import { any, convexHull, label, planeOf } from "./masks.js";

export const RIGHT = 1, LEFT = 2;
const CUT_RANGE_MM = 40, VALLEY_SHARE = 0.5, ONE_SIDED = 0.85;

export function leftRight(lung, [Z, Y, X], spacing) {
  const sides = new Int8Array(lung.length);
  if (!any(lung)) return sides;
  const columns = new Float64Array(Z * X);
  for (let z = 0, i = 0; z < Z; z++) for (let y = 0; y < Y; y++) for (let x = 0; x < X; x++, i++) columns[z * X + x] += lung[i];
  const profile = new Float32Array(Z * X);
  for (let z = 0; z < Z; z++)
    for (let x = 0; x < X; x++)
      profile[z * X + x] = ((x ? columns[z * X + x - 1] : 0) + columns[z * X + x] + (x < X - 1 ? columns[z * X + x + 1] : 0)) / 3;
  const whole = new Float32Array(X);
  for (let z = 0; z < Z; z++) for (let x = 0; x < X; x++) whole[x] += profile[z * X + x];
  const middle = emptiest(whole);
  if (middle === null) {
    const side = hollowOnTheLeft(lung, [Z, Y, X]) ? RIGHT : LEFT;
    return sides.map((_, i) => (lung[i] ? side : 0));
  }
  const cuts = cutsOf(profile, Z, X, middle, Math.max(1, Math.round(CUT_RANGE_MM / spacing[2])));
  const { labels, parts } = label(lung, [Z, Y, X]);
  const voxels = new Float64Array(parts + 1), beyond = new Float64Array(parts + 1);
  for (let z = 0, i = 0; z < Z; z++)
    for (let y = 0; y < Y; y++)
      for (let x = 0; x < X; x++, i++) {
        voxels[labels[i]]++;
        if (x >= cuts[z]) beyond[labels[i]]++;
      }
  for (let z = 0, i = 0; z < Z; z++)
    for (let y = 0; y < Y; y++)
      for (let x = 0; x < X; x++, i++)
        if (lung[i]) {
          const share = beyond[labels[i]] / Math.max(voxels[labels[i]], 1);
          const left = share >= ONE_SIDED || (share > 1 - ONE_SIDED && x >= cuts[z]);
          sides[i] = left ? LEFT : RIGHT;
        }
  return sides;
}

function emptiest(profile) {
  const low = profile.findIndex((value) => value), high = profile.findLastIndex((value) => value) + 1;
  const quarter = Math.floor((high - low) / 4), start = low + quarter, stop = high - quarter;
  if (stop <= start) return null;
  const part = profile.subarray(start, stop), least = Math.min(...part);
  const places = [...part.keys()].filter((i) => part[i] === least);
  const middle = start + places[Math.floor(places.length / 2)];
  const peaks = [Math.max(0, ...profile.subarray(0, middle)), Math.max(0, ...profile.subarray(middle))];
  return profile[middle] < VALLEY_SHARE * Math.min(...peaks) ? middle : null;
}

function cutsOf(profile, Z, X, middle, reach) {
  const low = Math.max(middle - reach, 0), high = Math.min(middle + reach + 1, X);
  const cuts = Array.from({ length: Z }, (_, z) => {
    let best = low, least = Infinity;
    for (let x = low; x < high; x++) {
      const value = profile[z * X + x] + Math.abs(x - middle) * 1e-3;
      if (value < least) (least = value), (best = x);
    }
    return best;
  });
  return cuts.map((_, z) => {
    const around = [-2, -1, 0, 1, 2].map((d) => cuts[Math.min(Math.max(z + d, 0), Z - 1)]).sort((a, b) => a - b);
    return around[2];
  });
}

function hollowOnTheLeft(lung, [Z, Y, X]) {
  let excess = 0;
  for (let z = 0; z < Z; z++) {
    const plane = planeOf(lung, [Z, Y, X], z);
    if (!any(plane)) continue;
    const hull = convexHull(plane, [1, Y, X]);
    let sum = 0, weighed = 0;
    for (let i = 0; i < plane.length; i++) (sum += plane[i]), (weighed += plane[i] * (i % X));
    for (let i = 0; i < plane.length; i++) if (hull[i] && !plane[i]) excess += i % X > weighed / sum ? 1 : -1;
  }
  return excess > 0;
}
