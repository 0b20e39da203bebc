// Planes of a scan with its masks painted over them. All is drawn here in the browser, so that windows, masks and
// places change at once: nothing is asked of the server.

const PLANES = {
  // Array axes (z, y, x) that stay, run down and run across; `up` where the picture's top is the axis's far end.
  axial: { name: "Axial", axis: 0, down: 1, across: 2, up: false, edges: ["R", "L", "A", "P"], from: "the feet" },
  coronal: { name: "Coronal", axis: 1, down: 0, across: 2, up: true, edges: ["R", "L", "H", "F"], from: "the front" },
  sagittal: { name: "Sagittal", axis: 2, down: 0, across: 1, up: true, edges: ["A", "P", "H", "F"], from: "the right" },
};
const LETTERS = [["R", "L"], ["A", "P"], ["H", "F"]]; // positive and negative RAS directions of x, y, z
const NARROW_PIXELS = 640;
const HU_LIMITS = { level: [-2000, 3000], width: [1, 5000] };

export default async function ({ data, parentElement }) {
  const root = parentElement.querySelector(".planes");
  const size = new DataView(data.buffer, data.byteOffset).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(data.subarray(4, 4 + size)));
  // The page calls this again after every click anywhere on it.
  if (root.dataset.scan === header.scan) return;
  root.dataset.scan = header.scan;
  root.textContent = "Unpacking the pictures\u2026";
  const packed = new Blob([data.subarray(4 + size)]).stream().pipeThrough(new DecompressionStream("gzip"));
  const voxels = await new Response(packed).arrayBuffer();
  if (root.dataset.scan === header.scan) show(root, header, voxels);
}

function show(root, header, voxels) {
  const count = header.shape.reduce((a, b) => a * b);
  const scan = {
    ...header,
    strides: [header.shape[1] * header.shape[2], header.shape[2], 1],
    hu: new Int16Array(voxels, 0, count),
    model: new Uint8Array(voxels, 2 * count, count),
    reader: header.reader ? new Uint8Array(voxels, 3 * count, count) : null,
  };
  const views = {
    "three planes": [["axial"], ["coronal"], ["sagittal"]],
    axial: [["axial"]],
    coronal: [["coronal"]],
    sagittal: [["sagittal"]],
    ...(scan.reader && { "model beside reader": [["axial", "model", "Model"], ["axial", "reader", "Reader"]] }),
    "3-D": [],
  };
  const state = { at: [...header.start], ...header.windows[0], strengths: header.overlays.map(overlay => overlay.strength), cross: true };
  const places = make("div", { className: "panes" });
  const readout = make("p", { className: "readout", role: "status" });
  let panes = [];
  let requested = false;
  const draw = () => {
    if (requested) return;
    requested = true;
    requestAnimationFrame(() => {
      requested = false;
      panes.forEach(pane => pane.draw());
      readout.textContent = readoutText(scan, state.at);
      controls.update();
    });
  };
  const pick = view => {
    panes = views[view].map(([plane, masks = "model", title]) => makePane(PLANES[plane], masks, title, scan, state, draw));
    if (view === "3-D") panes = [makeSolid(scan, state, draw)];
    places.dataset.view = view;
    places.replaceChildren(...panes.map(pane => pane.place));
    draw();
  };
  const first = root.clientWidth < NARROW_PIXELS ? "axial" : "three planes";
  const controls = makeControls(scan, state, Object.keys(views), first, pick, draw);
  root.replaceChildren(places, readout, controls.place);
  pick(first);
}

function makePane(plane, masks, title, scan, state, draw) {
  const [rows, columns] = [scan.shape[plane.down], scan.shape[plane.across]];
  const aspect = (columns * scan.spacing[plane.across]) / (rows * scan.spacing[plane.down]);
  const canvas = make("canvas", { width: columns, height: rows, role: "img", ariaLabel: `${title ?? plane.name} picture` });
  const lines = ["upright", "level"].map(name => make("i", { className: name }));
  const edges = plane.edges.map((letter, side) => make("b", { className: ["west", "east", "north", "south"][side] }, letter));
  const picture = make("div", { className: "picture" }, canvas, ...lines, ...edges);
  const go = slice => {
    state.at[plane.axis] = Math.min(Math.max(slice, 0), scan.shape[plane.axis] - 1);
    draw();
  };
  const { slider, number, show } = sliceSlider(title ?? plane.name, scan.shape[plane.axis], plane.from, go);
  const place = make("figure", {}, picture, make("figcaption", {}, make("span", {}, title ?? plane.name), slider, number));
  place.style.setProperty("--aspect", aspect);
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    if (event.deltaY) go(state.at[plane.axis] - Math.sign(event.deltaY)); // 0: a swipe to the side
  }, { passive: false });
  listen(canvas, plane, scan, state, draw);
  const pane = { plane, masks, canvas, lines, show, image: new ImageData(columns, rows) };
  return { place, draw: () => drawPane(pane, scan, state) };
}

// Left button or a finger: the place that all planes show. Right button: drag across for the width, up for the level.
function listen(canvas, plane, scan, state, draw) {
  const point = event => {
    const [across, down] = [event.offsetX / canvas.clientWidth, event.offsetY / canvas.clientHeight];
    const at = (axis, share) => Math.min(Math.max(Math.floor(share * scan.shape[axis]), 0), scan.shape[axis] - 1);
    state.at[plane.across] = at(plane.across, across);
    state.at[plane.down] = at(plane.down, plane.up ? 1 - down : down);
    draw();
  };
  canvas.addEventListener("pointerdown", event => {
    if (event.pointerType === "mouse") canvas.setPointerCapture(event.pointerId);
    if (event.button === 0) point(event);
  });
  canvas.addEventListener("pointermove", event => {
    if (event.pointerType === "mouse" && event.buttons === 1) point(event);
    if (event.buttons === 2) {
      state.width = within("width", state.width + 4 * event.movementX);
      state.level = within("level", state.level - 2 * event.movementY);
      draw();
    }
  });
  canvas.addEventListener("contextmenu", event => event.preventDefault());
}

function within(name, value) {
  const [low, high] = HU_LIMITS[name];
  return Math.min(Math.max(Math.round(value), low), high);
}

function drawPane(pane, scan, state) {
  const { plane, image, canvas } = pane;
  const [rows, columns] = [canvas.height, canvas.width];
  const [low, scale] = [state.level - state.width / 2, 255 / state.width];
  const [labels, pixels] = [scan[pane.masks], image.data];
  const start = state.at[plane.axis] * scan.strides[plane.axis];
  for (let row = 0, pixel = 0; row < rows; row++) {
    let voxel = start + (plane.up ? rows - 1 - row : row) * scan.strides[plane.down];
    for (let column = 0; column < columns; column++, voxel += scan.strides[plane.across], pixel += 4) {
      const grey = Math.min(Math.max((scan.hu[voxel] - low) * scale, 0), 255);
      const label = labels[voxel];
      const share = label ? state.strengths[label - 1] : 0;
      for (let part = 0; part < 3; part++) {
        pixels[pixel + part] = share ? grey + share * (scan.overlays[label - 1].rgb[part] - grey) : grey;
      }
      pixels[pixel + 3] = 255;
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  const down = (state.at[plane.down] + 0.5) / rows;
  pane.lines[0].style.left = `${(100 * (state.at[plane.across] + 0.5)) / columns}%`;
  pane.lines[1].style.top = `${100 * (plane.up ? 1 - down : down)}%`;
  pane.lines.forEach(line => (line.hidden = !state.cross));
  pane.show(state.at[plane.axis]);
}

// HU, class and patient coordinates at the cross.
function readoutText(scan, at) {
  const voxel = at.reduce((sum, index, axis) => sum + index * scan.strides[axis], 0);
  const name = label => (label ? scan.overlays[label - 1].name : "nothing");
  const parts = [`${scan.hu[voxel].toString().replace("-", "\u2212")} HU`];
  parts.push(scan.reader ? `model: ${name(scan.model[voxel])}, reader: ${name(scan.reader[voxel])}` : name(scan.model[voxel]));
  if (scan.affine) {
    const mm = scan.affine.map(row => row[0] * at[2] + row[1] * at[1] + row[2] * at[0] + row[3]);
    parts.push(mm.map((value, axis) => `${LETTERS[axis][value < 0 ? 1 : 0]} ${Math.abs(value).toFixed(0)}`).join(" ") + " mm");
  }
  return `At the cross: ${parts.join(" \u00b7 ")}`;
}

function makeControls(scan, state, views, first, pick, draw) {
  const radio = view => {
    const input = make("input", { type: "radio", name: "view", checked: view === first });
    input.addEventListener("change", () => pick(view));
    return make("label", {}, input, view);
  };
  const numbers = Object.fromEntries(["level", "width"].map(name => {
    const [min, max] = HU_LIMITS[name];
    const input = make("input", { type: "number", min, max, step: 10 });
    input.addEventListener("change", () => {
      if (input.value !== "") state[name] = within(name, Number(input.value));
      input.value = state[name];
      draw();
    });
    return [name, input];
  }));
  const presets = presetButtons(scan.windows, preset => {
    Object.assign(state, preset);
    draw();
  });
  const strengths = strengthSliders(scan.overlays, (number, strength) => {
    state.strengths[number] = strength;
    draw();
  });
  const cross = make("input", { type: "checkbox", checked: true });
  cross.addEventListener("change", () => {
    state.cross = cross.checked;
    draw();
  });
  const group = (title, ...children) => make("fieldset", { className: title.split(" ")[0].toLowerCase() }, make("legend", {}, title), ...children);
  const place = make(
    "div",
    { className: "controls" },
    group("View", ...views.map(radio), make("label", {}, cross, "cross")),
    group("Window", ...presets.buttons, ...Object.entries(numbers).map(([name, input]) => make("label", {}, name, input, "HU"))),
    group("Mask strength", ...strengths),
  );
  const update = () => {
    for (const [name, input] of Object.entries(numbers)) {
      if (!input.matches(":focus")) input.value = state[name]; // what is being typed stands
    }
    presets.mark(state);
  };
  return { place, update };
}
