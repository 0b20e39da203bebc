// The page: files in, progress, masks over the scan, numbers, files out. Nothing leaves the machine.
import { showPicture } from "./picture.js";

const $ = (id) => document.getElementById(id);
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
const worker = new Worker(URL.createObjectURL(new Blob([self.WORKER_SOURCE], { type: "text/javascript" })));
const about = self.MODEL;
let busy = true, links = [];

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

async function done({ measured, shape, spacing_mm, files, shown, picture }) {
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
  $("coarser").textContent = picture.step > 1 ? `One of ${picture.step} pixels of a row or column is shown; numbers and files have all.` : "";
  await show(shown, { ...picture, overlays: about.overlays, windows: about.windows });
}

async function show(volumes, view) {
  try {
    $("picture").hidden = false;
    await showPicture($("canvas"), $("controls"), volumes, view);
  } catch (error) {
    $("picture").hidden = true; // without WebGL2 there are numbers and files all the same
    $("status").textContent = `Done. The scan cannot be drawn here (${error.message}).`;
  }
}

// Chromium gives a page from disk the files below a folder by handles alone; other browsers have entries alone.
function filesOf(items) {
  const below = async (folder) => {
    const found = [];
    for await (const handle of folder.values()) found.push(...(handle.kind === "file" ? [await handle.getFile()] : await below(handle)));
    return found;
  };
  const inside = async (entry) => {
    if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
    const reader = entry.createReader(), found = [];
    for (let part; (part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))).length; ) found.push(...part);
    return (await Promise.all(found.map(inside))).flat();
  };
  const files = (item) => {
    const entry = item.webkitGetAsEntry();
    if (!entry?.isDirectory) return [item.getAsFile()];
    return item.getAsFileSystemHandle ? item.getAsFileSystemHandle().then(below) : inside(entry);
  };
  const dropped = [...items].filter(({ kind }) => kind === "file").map(files); // at once: items are gone after the event
  return Promise.all(dropped).then((found) => found.flat());
}

for (const id of ["file", "folder"]) $(id).addEventListener("change", (event) => take([...event.target.files]).then(() => (event.target.value = "")));
addEventListener("dragover", (event) => event.preventDefault());
// Before the picture gets it, which would load the files itself.
addEventListener("drop", async (event) => {
  event.preventDefault();
  event.stopPropagation();
  if (busy) return;
  try {
    take(await filesOf(event.dataTransfer.items));
  } catch (error) {
    refused({ text: `what was dropped cannot be read here (${error.message}); choose it with the buttons` });
  }
}, true);
