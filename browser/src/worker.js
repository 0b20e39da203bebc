// All work on a scan, away from the page, which stays quick. It is started from a text, so that it runs from disk.
import * as ort from "onnxruntime-web/wasm";
import { gzipSync } from "fflate";
import { isDicom, readDicom } from "./dicom.js";
import { classicalLungs, whyNoChest, whyNoHu } from "./lungs.js";
import { readNifti, Refusal, writeNifti } from "./nifti.js";
import { measure, segment } from "./segment.js";
import { thinned } from "./thinned.js";

let session, model;

self.onmessage = async ({ data }) => {
  try {
    if (data.kind === "start") await start(data);
    else await answer(data.files);
  } catch (error) {
    const known = error instanceof Refusal;
    self.postMessage({ kind: "refused", text: known ? error.message : `(a bug: please report) ${error?.stack ?? error}` });
  }
};

const say = (step, share) => self.postMessage({ kind: "progress", step, share });

async function start({ wasm, weights, about }) {
  model = about;
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = wasm;
  session = await ort.InferenceSession.create(new Uint8Array(weights), { executionProviders: ["wasm"] });
  self.postMessage({ kind: "ready" });
}

async function answer(files) {
  say("read", 0.02);
  const volume = read(files);
  const noHu = whyNoHu(volume.hu);
  if (noHu) throw new Refusal(noHu);
  say("find the lungs", 0.08);
  const lungs = classicalLungs(volume.hu, volume.shape, volume.spacing, (share) => say("find the lungs", 0.08 + 0.42 * share));
  const noChest = whyNoChest(volume.hu, lungs, volume.shape, volume.spacing);
  if (noChest) throw new Refusal(noChest);
  const ask = async (values, dims) => {
    const { probability } = await session.run({ x: new ort.Tensor("float32", values, dims) });
    return probability.data;
  };
  const infection = await segment(volume, lungs, model, ask, (share) => say("segment", 0.5 + 0.4 * share));
  say("write", 0.92);
  const masks = { lungs, infection };
  const packed = (array) => gzipSync(new Uint8Array(writeNifti(array, volume)), { level: 4 }).buffer;
  const files_ = { "lungs.nii.gz": packed(lungs), "infection.nii.gz": packed(infection) };
  const { files: shown, picture } = thinned(volume, masks);
  const measured = measure(volume, masks);
  const result = { kind: "done", measured, shape: volume.shape, spacing_mm: volume.spacing, files: files_, shown, picture };
  self.postMessage(result, [...Object.values(files_), ...Object.values(shown)]);
}

function read(files) {
  const dicom = files.filter(({ buffer }) => isDicom(buffer));
  if (dicom.length) return readDicom(dicom.map(({ buffer }) => buffer));
  const volumes = files.filter(({ name }) => /\.nii(\.gz)?$/i.test(name));
  if (volumes.length !== 1) throw new Refusal(`found ${volumes.length} NIfTI files and no DICOM among ${files.length}; expected one .nii or .nii.gz, or the DICOM files of one series`);
  return readNifti(volumes[0].buffer);
}
