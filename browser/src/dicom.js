// The DICOM files of a series to a canonical volume; compressed pixels are left to ground-glass predict.
import dicomParser from "dicom-parser";
import { Refusal, volumeOf } from "./nifti.js";

const PLAIN = new Set(["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"]);
const UNEVEN_SHARE = 0.05;

/** Whether a file is DICOM. */
export function isDicom(buffer) {
  return buffer.byteLength > 132 && new TextDecoder().decode(new Uint8Array(buffer, 128, 4)) === "DICM";
}

/** Read the files of one series. */
export function readDicom(buffers) {
  const images = buffers.map(readImage).filter(Boolean);
  if (!images.length) throw new Refusal("none of the DICOM files holds a CT image; expected the files of one series");
  const series = Map.groupBy(images, ({ uid }) => uid);
  if (series.size > 1) throw new Refusal(`the files are of ${series.size} series (${[...series.values()].map((files) => files.length).join(", ")} images); expected one: drop the files of one series`);
  const first = images[0], [row, column] = [first.orientation.slice(0, 3), first.orientation.slice(3)];
  const normal = [row[1] * column[2] - row[2] * column[1], row[2] * column[0] - row[0] * column[2], row[0] * column[1] - row[1] * column[0]];
  const height = (image) => image.position.reduce((sum, value, d) => sum + value * normal[d], 0);
  images.sort((a, b) => height(a) - height(b));
  const { rows, columns } = first;
  if (images.some((image) => image.rows !== rows || image.columns !== columns)) throw new Refusal("the images of the series differ in size; expected one size");
  if (images.length < 2) throw new Refusal("the series has one image; expected a volume of several slices");
  const step = (height(images.at(-1)) - height(images[0])) / (images.length - 1);
  images.forEach((image, n) => {
    const gap = n ? height(image) - height(images[n - 1]) : step;
    if (Math.abs(gap - step) > UNEVEN_SHARE * step) throw new Refusal(`the slices are not evenly spaced: a step of ${gap.toFixed(2)} mm among steps of ${step.toFixed(2)} mm; is a file missing or there twice?`);
  });
  const dims = [columns, rows, images.length], hu = new Int16Array(columns * rows * images.length);
  images.forEach((image, n) => hu.set(image.hu, n * rows * columns));
  const [rowMm, columnMm] = first.pixelSpacing, lps = [-1, -1, 1];
  const affine = [0, 1, 2].map((d) => lps[d]).map((sign, d) => [sign * row[d] * columnMm, sign * column[d] * rowMm, sign * normal[d] * step, sign * images[0].position[d]]);
  return volumeOf(hu, dims, [...affine, [0, 0, 0, 1]]);
}

function readImage(buffer) {
  const data = parse(buffer);
  if (data.string("x00080060") !== "CT" || !data.elements.x7fe00010) return null;
  if (data.string("x00080008")?.includes("LOCALIZER")) return null;
  const syntax = data.string("x00020010");
  if (!PLAIN.has(syntax)) throw new Refusal(`the pixels are compressed (transfer syntax ${syntax}), which this page does not read; ground-glass predict does`);
  if (data.intString("x00280008") > 1) throw new Refusal("the file holds several frames, which this page does not read; ground-glass predict does");
  const numbers = (tag) => data.string(tag)?.split("\\").map(Number);
  const [position, orientation, pixelSpacing] = [numbers("x00200032"), numbers("x00200037"), numbers("x00280030")];
  if (!position || !orientation || !pixelSpacing) throw new Refusal("an image says neither where it lies nor how large its pixels are; export the series again");
  const rows = data.uint16("x00280010"), columns = data.uint16("x00280011");
  if (data.uint16("x00280100") !== 16) throw new Refusal(`the pixels have ${data.uint16("x00280100")} bits; expected 16`);
  const element = data.elements.x7fe00010, slope = Number(data.string("x00281053") ?? 1), inter = Number(data.string("x00281052") ?? 0);
  if (element.length < 2 * rows * columns) throw new Refusal("a file ends before its last pixel; copy it again");
  const view = new DataView(buffer, element.dataOffset, 2 * rows * columns), signed = data.uint16("x00280103") === 1;
  const hu = Int16Array.from({ length: rows * columns }, (_, i) => {
    const stored = signed ? view.getInt16(2 * i, true) : view.getUint16(2 * i, true);
    return Math.min(Math.max(Math.round(stored * slope + inter), -1024), 32767);
  });
  return { uid: data.string("x0020000e"), position, orientation, pixelSpacing, rows, columns, hu };
}

function parse(buffer) {
  try {
    return dicomParser.parseDicom(new Uint8Array(buffer));
  } catch (error) {
    throw new Refusal(`a DICOM file cannot be read (${error.exception ?? error.message ?? error}); copy it again`);
  }
}
