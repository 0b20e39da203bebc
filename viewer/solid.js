// 3-D view of the lungs as glass with the findings in them: points of the surfaces, shaded by their normals. It needs
// no graphics card, and turns at the frame rate of the screen.

const CELLS = 112; // of the longest edge: points are 2 to 3 mm apart
const REACH = 2; // cells around a point that its normal is made from
const SIDE = 480; // pixels of the picture
const LIGHT = [-0.35, -0.45, 0.82]; // from the upper left, before the picture
const GLASS = { least: 0.25, most: 0.95, white: 0.35 }; // the lungs' colour would be dim on black

function makeSolid(scan, state, draw) {
  const cells = coarseCells(scan);
  const lungs = surface(cells, label => label > 0);
  const findings = scan.overlays.map((overlay, number) => number && surface(cells, label => label === number + 1));
  const canvas = make("canvas", { width: SIDE, height: SIDE, role: "img", ariaLabel: "Lungs and findings as solids" });
  const edges = ["R", "L"].map((letter, side) => make("b", { className: ["west", "east"][side] }, letter));
  const picture = make("div", { className: "picture solid" }, canvas, ...edges);
  const angles = { turn: 25, tilt: 15 };
  const sliders = Object.entries({ turn: 180, tilt: 90 }).map(([name, most]) => {
    const slider = make("input", { type: "range", min: -most, max: most, ariaLabel: `3-D ${name}` });
    slider.addEventListener("input", () => {
      angles[name] = Number(slider.value);
      draw();
    });
    return slider;
  });
  canvas.addEventListener("pointerdown", event => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", event => {
    if (!event.buttons) return;
    angles.turn = ((angles.turn + event.movementX / 2 + 540) % 360) - 180;
    angles.tilt = Math.min(Math.max(angles.tilt + event.movementY / 2, -90), 90);
    draw();
  });
  const buffers = { depth: new Float32Array(SIDE * SIDE), image: new ImageData(SIDE, SIDE) };
  const place = make("figure", {}, picture, make("figcaption", {}, "turn", sliders[0], "tilt", sliders[1]));
  place.style.setProperty("--aspect", 1);
  return {
    place,
    draw: () => {
      [sliders[0].value, sliders[1].value] = [angles.turn, angles.tilt];
      const towards = rotation(angles);
      buffers.image.data.fill(0);
      buffers.depth.fill(-Infinity);
      findings.forEach((points, number) => {
        if (points && state.strengths[number]) splat(points, towards, cells, buffers, scan.overlays[number].rgb);
      });
      buffers.depth.fill(-Infinity);
      splat(lungs, towards, cells, buffers, scan.overlays[0].rgb, true);
      canvas.getContext("2d").putImageData(buffers.image, 0, 0);
      const from = Math.abs(angles.turn); // the front shows the patient's right on the left, the back the left
      edges.forEach((edge, side) => {
        edge.hidden = from > 60 && from < 120;
        edge.textContent = (side === 0) === from < 90 ? "R" : "L";
      });
    },
  };
}

// The classes on a grid of cubes around the lungs, with a margin of nothing.
function coarseCells(scan) {
  const box = boxOf(scan);
  const sizes = box.map(([first, last], axis) => (last - first + 1) * scan.spacing[axis]);
  const edge = Math.max(...sizes) / CELLS;
  const shape = sizes.map(size => Math.ceil(size / edge) + 2 * REACH);
  const labels = new Uint8Array(shape[0] * shape[1] * shape[2]);
  const offsets = shape.map((count, axis) =>
    Array.from({ length: count }, (_, cell) => {
      const index = box[axis][0] + Math.floor(((cell - REACH + 0.5) * edge) / scan.spacing[axis]);
      return index < box[axis][0] || index > box[axis][1] ? NaN : index * scan.strides[axis];
    }));
  let cell = 0;
  for (const z of offsets[0]) for (const y of offsets[1]) for (const x of offsets[2]) labels[cell++] = scan.model[z + y + x];
  return { shape, strides: [shape[1] * shape[2], shape[2], 1], labels };
}

// First and last index of what has a class, along each axis.
function boxOf(scan) {
  const [slices, rows, columns] = scan.shape;
  const box = scan.shape.map(size => [size, -1]);
  for (let z = 0, voxel = 0; z < slices; z++) {
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++, voxel++) {
        if (!scan.model[voxel]) continue;
        [z, y, x].forEach((index, axis) => {
          box[axis][0] = Math.min(box[axis][0], index);
          box[axis][1] = Math.max(box[axis][1], index);
        });
      }
    }
  }
  return box;
}

// Six numbers for each point of a surface: its place from the middle, and its outward normal; x, y, z in cells.
function surface(cells, inside) {
  const { shape, strides, labels } = cells;
  const solid = labels.map(label => (inside(label) ? 1 : 0));
  const around = [];
  for (let z = -REACH; z <= REACH; z++)
    for (let y = -REACH; y <= REACH; y++)
      for (let x = -REACH; x <= REACH; x++) around.push([x, y, z, z * strides[0] + y * strides[1] + x]);
  const points = [];
  for (let z = REACH; z < shape[0] - REACH; z++) {
    for (let y = REACH; y < shape[1] - REACH; y++) {
      for (let x = REACH; x < shape[2] - REACH; x++) {
        const cell = z * strides[0] + y * strides[1] + x;
        if (!solid[cell] || strides.every(step => solid[cell - step] && solid[cell + step])) continue;
        const normal = [0, 0, 0];
        for (const [dx, dy, dz, step] of around) {
          if (!solid[cell + step]) continue;
          normal[0] -= dx;
          normal[1] -= dy;
          normal[2] -= dz;
        }
        const length = Math.hypot(...normal) || 1;
        points.push(x - shape[2] / 2, y - shape[1] / 2, z - shape[0] / 2, ...normal.map(part => part / length));
      }
    }
  }
  return new Float32Array(points);
}

// Rows that turn (x, y, z) of the patient into right, down and towards the viewer, who stands in front.
function rotation({ turn, tilt }) {
  const [a, b] = [turn, tilt].map(degrees => (degrees * Math.PI) / 180);
  const [ca, sa, cb, sb] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)];
  return [[ca, sa, 0], [sa * sb, -ca * sb, -cb], [sa * cb, -ca * cb, sb]];
}

// Paint points, the nearest on top; glass over what is there, denser towards its rims.
function splat(points, [right, down, near], cells, { depth, image }, rgb, glass = false) {
  const scale = SIDE / Math.hypot(...cells.shape);
  const size = Math.ceil(scale * 1.5);
  const pixels = image.data;
  const shade = new Float32Array(glass ? 2 * SIDE * SIDE : 0);
  for (let i = 0; i < points.length; i += 6) {
    const along = (row, at) => row[0] * points[at] + row[1] * points[at + 1] + row[2] * points[at + 2];
    const facing = along(near, i + 3);
    if (facing < 0) continue;
    const depthHere = along(near, i);
    const light = 0.35 + 0.65 * Math.max(along(right, i + 3) * LIGHT[0] + along(down, i + 3) * LIGHT[1] + facing * LIGHT[2], 0);
    const left = Math.round(SIDE / 2 + scale * along(right, i) - size / 2);
    const top = Math.round(SIDE / 2 + scale * along(down, i) - size / 2);
    for (let y = Math.max(top, 0); y < Math.min(top + size, SIDE); y++) {
      for (let x = Math.max(left, 0); x < Math.min(left + size, SIDE); x++) {
        const pixel = y * SIDE + x;
        if (depth[pixel] >= depthHere) continue;
        depth[pixel] = depthHere;
        if (!glass) pixels.set([rgb[0] * light, rgb[1] * light, rgb[2] * light, 255], 4 * pixel);
        else [shade[2 * pixel], shade[2 * pixel + 1]] = [light, GLASS.least + (GLASS.most - GLASS.least) * (1 - facing) ** 2];
      }
    }
  }
  if (!glass) return;
  for (let pixel = 0; pixel < SIDE * SIDE; pixel++) {
    const share = shade[2 * pixel + 1];
    if (!share) continue;
    for (let part = 0; part < 3; part++) {
      const at = 4 * pixel + part;
      const colour = rgb[part] + GLASS.white * (255 - rgb[part]);
      pixels[at] += share * (colour * shade[2 * pixel] - pixels[at]);
    }
    pixels[4 * pixel + 3] = 255;
  }
}
