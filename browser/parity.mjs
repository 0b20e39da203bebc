// Lungs of a NIfTI file by the page's code, for the tests: node parity.mjs scan.nii[.gz] out.bin
import fs from "node:fs";
import { readNifti } from "./src/nifti.js";
import { classicalLungs } from "./src/lungs.js";

const [, , scan, out] = process.argv;
const file = fs.readFileSync(scan);
const volume = readNifti(file.buffer.slice(file.byteOffset, file.byteOffset + file.length));
fs.writeFileSync(out, classicalLungs(volume.hu, volume.shape, volume.spacing));
