// The page: files in, progress, masks over the scan, numbers, files out. Nothing leaves the machine.
import { Niivue, NVImage } from "@niivue/niivue";

const $ = (id) => document.getElementById(id);
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
const worker = new Worker(URL.createObjectURL(new Blob([self.WORKER_SOURCE], { type: "text/javascript" })));
const about = self.MODEL;
let viewer, busy = true, links = [];

worker.onmessage = ({ data }) => ({ ready, progress, refused, done })[data.kind](data);
worker.onerror = (event) => refused({ text: `(a bug: please report) ${event.message}` });
const [wasm, weights] = [bytes(self.ORT_WASM), bytes(about.weights)];
self.ORT_WASM = about.weights = ""; // as large as the scan
worker.postMessage({ kind: "start", wasm, weights, about: { size: about.size, context: about.context } }, [wasm, weights]);
$("model").textContent = about.line;

function ready() {
  free();
  $("status").textContent = "Ready.";
}

function free() {
  busy = false;
  $("bar").hidden = true;
  for (const input of [$("file"), $("folder")]) input.disabled = false;
}

function progress({ step, share }) {
  $("status").textContent = `${step} ...`;
  $("bar").hidden = false;
  $("bar").value = share;
}

function refused({ text }) {
  free();
  $("status").textContent = "";
  $("error").textContent = text;
  $("error").hidden = false;
}

async function take(files) {
  if (busy || !files.length) return;
  busy = true;
  for (const input of [$("file"), $("folder")]) input.disabled = true;
  $("error").hidden = $("result").hidden = true;
  progress({ step: "read", share: 0 });
  try {
    const read = await Promise.all(files.map(async (file) => ({ name: file.name, buffer: await file.arrayBuffer() })));
    worker.postMessage({ kind: "scan", files: read }, read.map(({ buffer }) => buffer));
  } catch (error) {
    refused({ text: `the files cannot be read (${error.message}); copy them again` });
  }
}

async function done({ measured, shape, spacing_mm, files, shown }) {
  free();
  $("status").textContent = "Done.";
  const percent = (100 * measured.severity_score).toFixed(measured.severity_score < 0.001 ? 2 : 1);
  const rows = [["lungs", `${measured.lung_ml.toFixed(0)} ml`], ["infection", `${measured.infection_ml.toFixed(1)} ml`], ["share of the lungs", `${percent} %`],
    ["slices", `${shape[0]} of ${shape[1]} x ${shape[2]}, ${spacing_mm.map((mm) => mm.toFixed(2)).join(" x ")} mm`]];
  $("numbers").replaceChildren(...rows.map(([name, value]) => {
    const row = document.createElement("tr"), head = document.createElement("th"), cell = document.createElement("td");
    (head.scope = "row"), (head.textContent = name), (cell.textContent = value);
    row.append(head, cell);
    return row;
  }));
  for (const link of links) URL.revokeObjectURL(link);
  const numbers = { ...measured, shape, spacing_mm, model: about.line, checkpoint_sha256: about.sha256, made_by: "the page of Ground Glass; fewer checks and flags than ground-glass predict" };
  const all = { ...files, "measurements.json": new TextEncoder().encode(JSON.stringify(numbers, null, 2)) };
  links = [];
  $("downloads").replaceChildren(...Object.entries(all).map(([name, content]) => {
    const link = document.createElement("a"), item = document.createElement("li");
    link.href = URL.createObjectURL(new Blob([content]));
    (link.download = link.textContent = name), links.push(link.href), item.append(link);
    return item;
  }));
  $("result").hidden = false;
  await show(shown);
}

async function show({ scan, lungs, infection }) {
  try {
    if (!viewer) {
      viewer = new Niivue({ backColor: [0, 0, 0, 1], show3Dcrosshair: true, isRadiologicalConvention: true, logLevel: "error" });
      await viewer.attachToCanvas($("canvas"));
    }
    const image = (buffer, name, options) => NVImage.loadFromFile({ file: new File([buffer], name), ...options });
    viewer.volumes = [];
    viewer.addVolume(await image(scan, "scan.nii", { colormap: "gray", cal_min: -1000, cal_max: 200 }));
    viewer.addVolume(await image(lungs, "lungs.nii", { colormap: "blue", opacity: 0.15, cal_min: 0.5, cal_max: 1 }));
    viewer.addVolume(await image(infection, "infection.nii", { colormap: "green", opacity: 0.5, cal_min: 0.5, cal_max: 1 }));
    $("picture").hidden = false;
  } catch (error) {
    $("picture").hidden = true; // without WebGL2 there are numbers and files all the same
    $("status").textContent = `Done. The scan cannot be drawn here (${error.message}).`;
  }
}

async function filesOf(items) {
  const inside = async (entry) => {
    if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
    const reader = entry.createReader(), found = [];
    for (let part; (part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))).length; ) found.push(...part);
    return (await Promise.all(found.map(inside))).flat();
  };
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  return (await Promise.all(entries.map(inside))).flat();
}

for (const id of ["file", "folder"]) $(id).addEventListener("change", (event) => take([...event.target.files]).then(() => (event.target.value = "")));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", async (event) => {
  event.preventDefault();
  take(await filesOf(event.dataTransfer.items));
});
