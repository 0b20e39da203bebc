// What the page shows of a scan: every voxel of small ones, some of the pixels of large ones, as the viewer does.
import { any, count, planeOf } from "./masks.js";
import { orientation, writeNifti } from "./nifti.js";

const MOST_PIXELS = 256; // along a row or column: a picture's copies of all pixels would take more memory than the segmentation

/** NIfTI files of a scan and its masks, with { shape, step in pixels, start: the voxel (z, y, x) to show first }. */
export function thinned(volume, masks) {
  const [Z, Y, X] = volume.shape, step = Math.ceil(Math.max(Y, X) / MOST_PIXELS);
  const shape = [Z, Math.ceil(Y / step), Math.ceil(X / step)], [zMm, yMm, xMm] = volume.spacing;
  const affine = [[-xMm * step, 0, 0, 0], [0, -yMm * step, 0, 0], [0, 0, zMm, 0], [0, 0, 0, 1]];
  const grid = { dims: shape.toReversed(), axes: orientation(affine), affine };
  const file = (array) => {
    const out = new array.constructor(shape[0] * shape[1] * shape[2]);
    let n = 0;
    for (let z = 0; z < Z; z++) for (let y = 0; y < Y; y += step) for (let x = 0, at = (z * Y + y) * X; x < X; x += step) out[n++] = array[at + x];
    return writeNifti(out, grid);
  };
  const files = { scan: file(volume.hu) };
  for (const [name, mask] of Object.entries(masks)) files[name] = file(mask);
  const [z, y, x] = middleOfMost(any(masks.infection) ? masks.infection : masks.lungs, volume.shape);
  return { files, picture: { shape, step, start: [z, Math.floor(y / step), Math.floor(x / step)] } };
}

/** The middle of a mask in the axial slice with most of it. */
function middleOfMost(mask, shape) {
  const [Z, , X] = shape, areas = Array.from({ length: Z }, (_, z) => count(planeOf(mask, shape, z)));
  const most = Math.max(...areas), z = areas.indexOf(most);
  let y = 0, x = 0;
  planeOf(mask, shape, z).forEach((inside, i) => inside && ((y += Math.floor(i / X)), (x += i % X)));
  return [z, Math.floor(y / most), Math.floor(x / most)];
}
