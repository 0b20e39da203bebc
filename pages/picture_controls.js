// Controls of pictures of a scan, for the viewer and for the page that segments in the browser; all are reached by key.

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A slider of slices and its number; `go` gets the slice from 0, `show` sets both. */
export function sliceSlider(name, slices, from, go) {
  const slider = make("input", { type: "range", min: 0, max: slices - 1, ariaLabel: `${name} slice` });
  const number = make("span");
  slider.addEventListener("input", () => go(Number(slider.value)));
  const show = slice => {
    slider.value = slice;
    number.textContent = `${slice + 1} of ${slices}`;
    slider.ariaValueText = `${number.textContent} from ${from}`;
  };
  return { slider, number, show };
}

/** A button for each window; `use` gets { level, width }, `mark` shows which of them is set. */
export function presetButtons(windows, use) {
  const buttons = windows.map(({ name, level, width }) => {
    const button = make("button", { type: "button" }, name);
    button.addEventListener("click", () => use({ level, width }));
    return button;
  });
  const mark = set => windows.forEach((preset, number) => {
    buttons[number].ariaPressed = String(preset.level === set.level && preset.width === set.width);
  });
  return { buttons, mark };
}

/** A labelled slider for the strength of each mask; `use` gets the number of the overlay and its strength, 0 to 1. */
export function strengthSliders(overlays, use) {
  return overlays.map(({ name, rgb, strength }, number) => {
    const slider = make("input", { type: "range", min: 0, max: 1, step: 0.05, value: strength, ariaLabel: `Mask strength of ${name}` });
    slider.addEventListener("input", () => use(number, Number(slider.value)));
    const swatch = make("i", { className: "swatch" });
    swatch.style.background = `rgb(${rgb})`;
    return make("label", {}, swatch, make("span", {}, name), slider);
  });
}
