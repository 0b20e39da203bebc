// Without this script the page shows the first slice as a picture, and the controls stay hidden.
const slices = JSON.parse(document.getElementById("slices").textContent);
const slider = document.getElementById("slice"), overlay = document.getElementById("overlay");
const pictures = document.querySelectorAll("#viewer img"), here = document.querySelector(".here");
function show() {
  const slice = slices[slider.value];
  pictures[0].src = "data:image/jpeg;base64," + slice.ct;
  pictures[1].src = "data:image/png;base64," + slice.overlay;
  document.getElementById("where").value = slice.caption;
  slider.setAttribute("aria-valuetext", slice.caption);
  if (here) { here.setAttribute("x1", slice.chart_x); here.setAttribute("x2", slice.chart_x); }
}
slider.addEventListener("input", show);
overlay.addEventListener("change", () => document.body.classList.toggle("bare", !overlay.checked));
for (const lobe of document.querySelectorAll("[data-slice]"))
  lobe.addEventListener("click", () => { slider.value = lobe.dataset.slice; show(); });
for (const controls of document.querySelectorAll(".controls")) controls.hidden = false;
show();
