// The model on a volume: inference/scan_masks.py of a model of one finding, batch by batch.
import { planTransform } from "./resample.js";
import { any, planeOf } from "./masks.js";

const BATCH = 4, HU_OFFSET = 1024, HU_PER_UNIT = 110;

/**
 * Segment a volume inside its lungs.
 * @param ask (Float32Array, [slices, context, size, size]) => Promise of Float32Array: probabilities (slices, 1, size, size).
 * @returns Uint8Array (Z, Y, X).
 */
export async function segment(volume, lungs, { size, context }, ask, progress = () => {}) {
  const transform = planTransform(volume.shape, volume.spacing, size), plane = size * size;
  const hu = transform.applyHu(volume.hu), lung = transform.applyMask(lungs), slices = transform.shape[0];
  const rows = Array.from({ length: slices }, (_, z) => z).filter((z) => any(planeOf(lung, transform.shape, z)));
  const probability = new Float32Array(slices * plane), half = Math.floor(context / 2);
  for (let start = 0; start < rows.length; start += BATCH) {
    const batch = rows.slice(start, start + BATCH), input = new Float32Array(batch.length * context * plane);
    batch.forEach((z, n) => {
      const inside = planeOf(lung, transform.shape, z);
      for (let c = 0; c < context; c++) {
        const source = planeOf(hu, transform.shape, Math.min(Math.max(z + c - half, 0), slices - 1)), at = (n * context + c) * plane;
        for (let i = 0; i < plane; i++) input[at + i] = inside[i] ? (source[i] + HU_OFFSET) / HU_PER_UNIT : 0;
      }
    });
    const answer = await ask(input, [batch.length, context, size, size]);
    batch.forEach((z, n) => probability.set(answer.subarray(n * plane, (n + 1) * plane), z * plane));
    progress(Math.min(1, (start + BATCH) / rows.length));
  }
  const mask = new Uint8Array(lungs.length), [, Y, X] = volume.shape;
  let z = 0;
  for (const slice of transform.restore(probability)) {
    for (let i = 0, at = z * Y * X; i < slice.length; i++, at++) mask[at] = lungs[at] && slice[i] > 0.5 ? 1 : 0;
    z++;
  }
  return mask;
}

/** Volumes in ml and the infected share of the lungs. */
export function measure(volume, masks) {
  const ml = (volume.spacing[0] * volume.spacing[1] * volume.spacing[2]) / 1000, sum = (mask) => mask.reduce((a, b) => a + b, 0) * ml;
  const lung_ml = sum(masks.lungs), infection_ml = sum(masks.infection);
  return { lung_ml, infection_ml, severity_score: infection_ml / lung_ml };
}
