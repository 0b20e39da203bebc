// The prepared grid of a scan and back: ct/resample.py.

export const AIR_HU = -1024;
const THIN_SLICE_MM = 4, TARGET_SLICE_MM = 5, SAME_SIZE = 1e-4;

/** Half to even, as numpy rounds. */
export function rint(value) {
  const near = Math.round(value);
  return near - value === 0.5 && near % 2 ? near - 1 : near;
}

/** Weights of one axis, a row of [indices, shares] for each target voxel. */
function overlap(sourceCount, sourceMm, count, spacingMm, offsetMm) {
  const rows = [];
  const area = spacingMm >= sourceMm * (1 - SAME_SIZE);
  for (let t = 0; t < count; t++) {
    const indices = [], shares = [];
    if (area) {
      const low = t * spacingMm, high = low + spacingMm;
      const first = Math.max(0, Math.floor((low - offsetMm) / sourceMm) - 1);
      for (let s = first; s < sourceCount && s * sourceMm + offsetMm < high + sourceMm; s++) {
        const start = s * sourceMm + offsetMm;
        const covered = Math.min(high, start + sourceMm) - Math.max(low, start);
        if (covered > 1e-6 * sourceMm) indices.push(s), shares.push(Math.fround(covered / spacingMm));
      }
    } else {
      const position = ((t + 0.5) * spacingMm - offsetMm) / sourceMm - 0.5;
      if (position > -0.5 - 1e-6 && position < sourceCount - 0.5 + 1e-6) {
        const clipped = Math.min(Math.max(position, 0), sourceCount - 1);
        const below = Math.min(Math.floor(clipped), Math.max(sourceCount - 2, 0));
        indices.push(below), shares.push(Math.fround(1 - (clipped - below)));
        if (sourceCount > 1) indices.push(below + 1), shares.push(Math.fround(clipped - below));
      }
    }
    rows.push([indices, shares]);
  }
  return rows;
}

class AxisMap {
  constructor(sourceCount, sourceMm, count, spacingMm, offsetMm = 0) {
    Object.assign(this, { sourceCount, sourceMm, count, spacingMm, offsetMm });
  }
  forward() {
    return overlap(this.sourceCount, this.sourceMm, this.count, this.spacingMm, this.offsetMm);
  }
  inverse() {
    return overlap(this.count, this.spacingMm, this.sourceCount, this.sourceMm, -this.offsetMm);
  }
  nearest() {
    return Int32Array.from({ length: this.count }, (_, t) => {
      const index = Math.floor(((t + 0.5) * this.spacingMm - this.offsetMm) / this.sourceMm + 1e-6);
      return index < 0 || index >= this.sourceCount ? -1 : index;
    });
  }
}

export class Transform {
  constructor(z, y, x) {
    Object.assign(this, { z, y, x });
    this.shape = [z.count, y.count, x.count];
    this.sourceShape = [z.sourceCount, y.sourceCount, x.sourceCount];
    this.spacing = [z.spacingMm, y.spacingMm, x.spacingMm];
  }
  applyHu(hu) {
    const [, Y, X] = this.shape, out = new Int16Array(this.shape[0] * Y * X);
    let z = 0;
    const forward = [this.z.forward(), this.y.forward(), this.x.forward()];
    for (const plane of planes(hu, this.sourceShape, forward, -AIR_HU)) {
      for (let i = 0; i < plane.length; i++) out[z * Y * X + i] = rint(plane[i] + AIR_HU);
      z++;
    }
    return out;
  }
  applyMask(mask) {
    const [z, y, x] = [this.z.nearest(), this.y.nearest(), this.x.nearest()], [, Y, X] = this.sourceShape;
    const out = new Uint8Array(this.shape[0] * this.shape[1] * this.shape[2]);
    let i = 0;
    for (const a of z) for (const b of y) for (const c of x) out[i++] = a < 0 || b < 0 || c < 0 ? 0 : mask[(a * Y + b) * X + c];
    return out;
  }
  /** Yield the slices of a map of the prepared grid on the scan's own. */
  *restore(map) {
    yield* planes(map, this.shape, [this.z.inverse(), this.y.inverse(), this.x.inverse()], 0);
  }
  restoreMask(mask) {
    const [, Y, X] = this.sourceShape, out = new Uint8Array(this.sourceShape[0] * Y * X);
    let z = 0;
    for (const plane of this.restore(mask)) {
      for (let i = 0; i < plane.length; i++) out[z * Y * X + i] = plane[i] > 0.5 ? 1 : 0;
      z++;
    }
    return out;
  }
}

function* planes(array, [, Y, X], [alongZ, alongY, alongX], shift) {
  let ready = new Map();
  for (const [needed, weights] of alongZ) {
    ready = new Map(needed.filter((z) => ready.has(z)).map((z) => [z, ready.get(z)]));
    const plane = new Float32Array(alongY.length * alongX.length);
    needed.forEach((z, n) => {
      if (!ready.has(z)) ready.set(z, inPlane(array.subarray(z * Y * X, (z + 1) * Y * X), X, alongY, alongX, shift));
      const source = ready.get(z), weight = weights[n];
      for (let i = 0; i < plane.length; i++) plane[i] += weight * source[i];
    });
    yield plane;
  }
}

function inPlane(source, X, alongY, alongX, shift) {
  const rows = new Float32Array(alongY.length * X);
  alongY.forEach(([indices, weights], y) => {
    for (let n = 0; n < indices.length; n++) {
      const from = indices[n] * X, weight = weights[n], to = y * X;
      for (let x = 0; x < X; x++) rows[to + x] += weight * (source[from + x] + shift);
    }
  });
  const out = new Float32Array(alongY.length * alongX.length);
  for (let y = 0; y < alongY.length; y++)
    alongX.forEach(([indices, weights], x) => {
      let sum = 0;
      for (let n = 0; n < indices.length; n++) sum = Math.fround(sum + weights[n] * rows[y * X + indices[n]]);
      out[y * alongX.length + x] = sum;
    });
  return out;
}

/** Lay the prepared grid over a scan: ct.resample.plan_transform. */
export function planTransform([Z, Y, X], [zMm, yMm, xMm], size) {
  const side = Math.max(Y * yMm, X * xMm);
  const inPlaneAxis = (count, mm) => {
    const padding = Math.floor((side - count * mm) / 2 / mm + 1e-6);
    return new AxisMap(count, mm, size, side / size, Math.max(padding, 0) * mm);
  };
  const thin = zMm < THIN_SLICE_MM * (1 - SAME_SIZE);
  const count = thin ? Math.max(1, rint((Z * zMm) / TARGET_SLICE_MM)) : Z;
  const z = new AxisMap(Z, zMm, count, thin ? (Z * zMm) / count : zMm);
  return new Transform(z, inPlaneAxis(Y, yMm), inPlaneAxis(X, xMm));
}

/** Lay a grid of whole voxels of about a given size over a scan, nowhere finer than the scan's. */
export function coarserGrid(shape, spacing, atLeast) {
  const axes = shape.map((count, d) => {
    const coarse = Math.min(count, Math.max(1, rint((count * spacing[d]) / atLeast[d])));
    return new AxisMap(count, spacing[d], coarse, (count * spacing[d]) / coarse);
  });
  return new Transform(...axes);
}
