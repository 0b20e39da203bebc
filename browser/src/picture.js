// The scan with its masks in NiiVue, and the controls beside it.
import { Niivue, NVImage, SHOW_RENDER } from "@niivue/niivue";
import { make, presetButtons, sliceSlider, strengthSliders } from "../../pages/picture_controls.js";

// In the order of a volume's axes: which of NiiVue's axes it is (to the right, the front, the head), and whether it runs like it.
const PLANES = [
  { name: "Axial", axis: 2, along: true, from: "the feet" },
  { name: "Coronal", axis: 1, along: false, from: "the front" },
  { name: "Sagittal", axis: 0, along: false, from: "the right" },
];

let viewer;

/**
 * Draw a scan with its masks, and fill `controls`; without WebGL2 it fails.
 * @param volumes NIfTI files: the scan, and a mask by the name of each overlay.
 * @param view { shape, start: voxel (z, y, x) to show first, overlays, windows } as ground_glass/page_look.py writes them.
 */
export async function showPicture(canvas, controls, { scan, ...masks }, { shape, start, overlays, windows }) {
  viewer ??= await attached(canvas, overlays);
  const add = async (buffer, name, options) => viewer.addVolume(await NVImage.loadFromFile({ file: new File([buffer], `${name}.nii`), ...options }));
  viewer.volumes = [];
  await add(scan, "scan", { colormap: "gray", ...limits(windows[0]) });
  for (const { name, strength } of overlays) await add(masks[name], name, { colormap: name, opacity: strength, cal_min: 0.5, cal_max: 1 });

  const go = (place) => {
    for (const [n, slice] of Object.entries(place)) {
      const { axis, along } = PLANES[n], share = (slice + 0.5) / shape[n];
      viewer.scene.crosshairPos[axis] = along ? share : 1 - share;
    }
    viewer.drawScene();
    viewer.createOnLocationChange();
  };
  const sliders = PLANES.map(({ name, from }, n) => sliceSlider(name, shape[n], from, (slice) => go({ [n]: slice })));
  const presets = presetButtons(windows, (window) => {
    Object.assign(viewer.volumes[0], limits(window));
    presets.mark(window);
    repaint();
  });
  const strengths = strengthSliders(overlays, (number, strength) => {
    viewer.volumes[number + 1].opacity = strength;
    repaint();
  });
  const rows = sliders.map(({ slider, number }, n) => make("label", {}, make("span", {}, PLANES[n].name), slider, number));
  const group = (title, ...children) => make("fieldset", {}, make("legend", {}, title), ...children);
  controls.replaceChildren(group("Slice", ...rows), group("Window", ...presets.buttons), group("Mask strength", ...strengths));
  presets.mark(windows[0]);

  viewer.onLocationChange = () => PLANES.forEach(({ axis, along }, n) => {
    const share = viewer.scene.crosshairPos[axis], slice = Math.floor((along ? share : 1 - share) * shape[n]);
    sliders[n].show(Math.min(Math.max(slice, 0), shape[n] - 1));
  });
  go(start);
}

async function attached(canvas, overlays) {
  // No rendering in 3-D: without a graphics card it takes longer than the segmentation.
  const niivue = new Niivue({ backColor: [0, 0, 0, 1], multiplanarShowRender: SHOW_RENDER.NEVER, isRadiologicalConvention: true, logLevel: "error" });
  await niivue.attachToCanvas(canvas);
  for (const { name, rgb: [red, green, blue] } of overlays) niivue.addColormap(name, { R: [red, red], G: [green, green], B: [blue, blue], A: [0, 255], I: [0, 255] });
  return niivue;
}

const limits = ({ level, width }) => ({ cal_min: level - width / 2, cal_max: level + width / 2 });

let requested = false;
function repaint() {
  if (requested) return;
  requested = true; // once for all moves of a slider within a frame
  requestAnimationFrame(() => {
    requested = false;
    viewer.updateGLVolume();
  });
}
