// NIfTI files to canonical volumes (Z, Y, X: feet to head, front to back, right to left) and masks back to their grid.
import * as nifti from "nifti-reader-js";

export class Refusal extends Error {}

/** Which file axis, and in which direction, runs to the head, the back and the left, for a RAS affine (rows). */
export function orientation(affine) {
  const columns = [0, 1, 2].map((axis) => [affine[0][axis], affine[1][axis], affine[2][axis]]);
  const taken = new Set(), axisOf = [null, null, null];
  const pairs = [0, 1, 2].flatMap((axis) => [0, 1, 2].map((world) => [Math.abs(columns[axis][world]) / Math.hypot(...columns[axis]), axis, world]));
  for (const [, axis, world] of pairs.sort((a, b) => b[0] - a[0])) {
    if (taken.has(axis) || axisOf[world]) continue;
    taken.add(axis);
    axisOf[world] = { axis, mm: Math.hypot(...columns[axis]), up: columns[axis][world] > 0 };
  }
  const [right, front, head] = axisOf; // world axes of RAS: to the right, the front, the head
  return [{ ...head, flip: !head.up }, { ...front, flip: front.up }, { ...right, flip: right.up }];
}

/** Move an array of a file (dims i, j, k, i fastest) to (Z, Y, X). */
export function toCanonical(values, dims, axes) {
  const strides = [1, dims[0], dims[0] * dims[1]], shape = axes.map(({ axis }) => dims[axis]);
  const out = new values.constructor(values.length);
  const [z, y, x] = axes.map(({ axis, flip }) => ({ step: flip ? -strides[axis] : strides[axis], from: flip ? (dims[axis] - 1) * strides[axis] : 0 }));
  let n = 0;
  for (let a = 0; a < shape[0]; a++)
    for (let b = 0; b < shape[1]; b++) {
      let at = z.from + a * z.step + y.from + b * y.step + x.from;
      for (let c = 0; c < shape[2]; c++, at += x.step) out[n++] = values[at];
    }
  return { array: out, shape };
}

/** Move a mask (Z, Y, X) to the file's own order. */
export function toFile(mask, dims, axes) {
  const strides = [1, dims[0], dims[0] * dims[1]], out = new mask.constructor(mask.length);
  const [z, y, x] = axes.map(({ axis, flip }) => ({ step: flip ? -strides[axis] : strides[axis], from: flip ? (dims[axis] - 1) * strides[axis] : 0, n: dims[axis] }));
  let n = 0;
  for (let a = 0; a < z.n; a++) for (let b = 0; b < y.n; b++) for (let c = 0, at = z.from + a * z.step + y.from + b * y.step + x.from; c < x.n; c++, at += x.step) out[at] = mask[n++];
  return out;
}

/** Read a NIfTI file, packed or not. */
export function readNifti(buffer) {
  if (nifti.isCompressed(buffer)) buffer = nifti.decompress(buffer);
  if (!nifti.isNIFTI(buffer)) throw new Refusal("this is no NIfTI file; expected .nii, .nii.gz or the DICOM files of one series");
  const header = nifti.readHeader(buffer), dims = [1, 2, 3].map((d) => header.dims[d]);
  if (header.dims[0] < 3 || header.dims.slice(4, header.dims[0] + 1).some((n) => n > 1) || Math.min(...dims) < 2)
    throw new Refusal(`the file has the size ${header.dims.slice(1, header.dims[0] + 1).join(" x ")}; expected a volume of several slices`);
  const types = { 2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 64: Float64Array, 256: Int8Array, 512: Uint16Array, 768: Uint32Array };
  const Kind = types[header.datatypeCode];
  if (!Kind) throw new Refusal(`the voxels are of NIfTI's type ${header.datatypeCode}; expected whole or floating numbers`);
  const image = nifti.readImage(header, buffer), voxels = dims[0] * dims[1] * dims[2];
  if (image.byteLength < voxels * Kind.BYTES_PER_ELEMENT) throw new Refusal("the file ends before its last voxel; copy it again");
  const numbers = header.littleEndian ? new Kind(image.slice(0, voxels * Kind.BYTES_PER_ELEMENT)) : swapped(image, Kind, voxels);
  const slope = isFinite(header.scl_slope) && header.scl_slope !== 0 ? header.scl_slope : 1, inter = isFinite(header.scl_inter) ? header.scl_inter : 0;
  const hu = new Int16Array(voxels);
  for (let i = 0; i < voxels; i++) hu[i] = Math.min(Math.max(Math.round(numbers[i] * slope + inter), AIR_HU_FLOOR), 32767);
  return volumeOf(hu, dims, header.affine, header);
}

const AIR_HU_FLOOR = -1024;

function swapped(image, Kind, voxels) {
  const view = new DataView(image), out = new Kind(voxels), bytes = Kind.BYTES_PER_ELEMENT;
  const get = { Int16Array: "getInt16", Uint16Array: "getUint16", Int32Array: "getInt32", Uint32Array: "getUint32", Float32Array: "getFloat32", Float64Array: "getFloat64", Uint8Array: "getUint8", Int8Array: "getInt8" }[Kind.name];
  for (let i = 0; i < voxels; i++) out[i] = view[get](i * bytes, false);
  return out;
}

/** A canonical volume from HU in a file's order and the affine of its voxels (RAS, rows). */
export function volumeOf(values, dims, affine) {
  const axes = orientation(affine), { array: hu, shape } = toCanonical(values, dims, axes);
  const spacing = axes.map(({ mm }) => mm);
  if (!spacing.every((mm) => mm >= 0.1 && mm <= 30)) throw new Refusal(`voxels measure ${spacing.map((mm) => mm.toFixed(2)).join(" x ")} mm; expected 0.1 to 30 mm: are they in another unit?`);
  return { hu, shape, spacing, dims, axes, affine };
}

/** A NIfTI file of a canonical mask or HU, on the grid of a volume. */
export function writeNifti(array, volume) {
  const voxels = toFile(array, volume.dims, volume.axes), bytes = voxels.BYTES_PER_ELEMENT;
  const buffer = new ArrayBuffer(352 + voxels.byteLength), view = new DataView(buffer);
  view.setInt32(0, 348, true);
  [3, ...volume.dims, 1, 1, 1, 1].forEach((n, i) => view.setInt16(40 + 2 * i, n, true));
  view.setInt16(70, bytes === 1 ? 2 : 4, true);
  view.setInt16(72, 8 * bytes, true);
  const columns = [0, 1, 2].map((axis) => Math.hypot(...[0, 1, 2].map((row) => volume.affine[row][axis])));
  [1, ...columns].forEach((mm, i) => view.setFloat32(76 + 4 * i, mm, true));
  view.setFloat32(108, 352, true);
  view.setFloat32(112, 1, true);
  view.setUint8(123, 2); // mm
  view.setInt16(254, 1, true); // sform
  volume.affine.slice(0, 3).forEach((row, r) => row.forEach((value, c) => view.setFloat32(280 + 16 * r + 4 * c, value, true)));
  [0x6e, 0x2b, 0x31, 0].forEach((letter, i) => view.setUint8(344 + i, letter));
  new Uint8Array(buffer, 352).set(new Uint8Array(voxels.buffer));
  return buffer;
}
