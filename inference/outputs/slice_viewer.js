// Shown without the script too: then the slice that the viewer starts with is a picture, and the controls stay away.
const shown = JSON.parse(document.getElementById("slices").textContent);
const slider = document.getElementById("slice"), overlay = document.getElementById("overlay");
const pictures = document.querySelectorAll("#viewer img"), here = document.querySelector(".here");
function show() {
  const slice = shown[slider.value];
  pictures[0].src = "data:image/jpeg;base64," + slice.ct;
  pictures[1].src = "data:image/png;base64," + slice.overlay;
  document.getElementById("where").value = slice.said;
  slider.setAttribute("aria-valuetext", slice.said);
  if (here) { here.setAttribute("x1", slice.at); here.setAttribute("x2", slice.at); }
}
slider.addEventListener("input", show);
overlay.addEventListener("change", () => document.body.classList.toggle("bare", !overlay.checked));
for (const controls of document.querySelectorAll(".controls")) controls.hidden = false;
show();
