"""Sizes of one patient, drawn from what was measured on real lungs.

Measured by us on 26 masks of lungs and lobes of LUNA16 scans (Tang, Zhang, Xie: "Automatic pulmonary lobe segmentation
using deep learning", ISBI 2019, arXiv 1903.09879; the masks are CC BY-NC-SA 4.0 and are no part of this project, the
figures below are statistics over all of them): mean +- standard deviation (least .. most)

- both lungs: height 264 +- 37 mm (162 .. 327), depth 185 +- 20 (147 .. 222), width 265 +- 28 (195 .. 303);
  correlation of height with depth .53, with width .61, of depth with width .68
- volume: right 2645 +- 875 ml (765 .. 4120), left 2354 +- 827 ml (511 .. 4111)
- right dome above the lowest point of the lung: 88 +- 26 mm (45 .. 139), correlation with height .72; its top lies
  18 mm in front of the middle
- share of the lungs' volume: right upper .20, middle .09, lower .24, left upper .25, lower .22
- fissures: `ct.lungs.fissure_shapes`
"""

from dataclasses import dataclass

import numpy as np

HEIGHT_MM, DEPTH_MM, WIDTH_MM, DOME_MM = (264.0, 37.0), (185.0, 20.0), (265.0, 28.0), (88.0, 26.0)
RANGES_MM = {"height": (162.0, 327.0), "depth": (147.0, 222.0), "width": (195.0, 303.0), "dome": (45.0, 139.0)}


@dataclass(frozen=True)
class Build:
    """Sizes of a chest.

    Attributes:
        height_mm: From the lowest point of the lungs to the apex.
        depth_mm: From the front to the back of the lungs.
        width_mm: From the right border of the right lung to the left border of the left.
        dome_mm: Height of the right dome above the lowest point of the lungs.
        fat_mm: Thickness of the fat under the skin.
        muscle_mm: Thickness of the chest wall without it.
        breast_mm: How far the breasts stand out; 0 for none.
        arms_down: Whether the arms lie beside the chest.
        blood_hu: HU of blood, raised by contrast medium.
        lung_hu: Median HU of normal lung, higher in shallow inspiration.
    """

    height_mm: float
    depth_mm: float
    width_mm: float
    dome_mm: float
    fat_mm: float
    muscle_mm: float
    breast_mm: float
    arms_down: bool
    blood_hu: float
    lung_hu: float


def draw_build(rng: np.random.Generator) -> Build:
    """Draw the sizes of one patient."""
    common = rng.normal()

    def size(name: str, mean_sd: tuple[float, float], share: float, of: float) -> float:
        value = mean_sd[0] + mean_sd[1] * (share * of + np.sqrt(1 - share**2) * rng.normal())
        return float(np.clip(value, *RANGES_MM[name]))

    height = size("height", HEIGHT_MM, 0.7, common)
    tall = (height - HEIGHT_MM[0]) / HEIGHT_MM[1]
    contrast = rng.random() < 0.35
    return Build(
        height_mm=height,
        depth_mm=size("depth", DEPTH_MM, 0.77, common),
        width_mm=size("width", WIDTH_MM, 0.87, common),
        dome_mm=size("dome", DOME_MM, 0.72, tall),
        fat_mm=float(rng.gamma(3, 5) + 3),
        muscle_mm=float(rng.uniform(9, 18)),
        breast_mm=float(rng.uniform(15, 45) * (rng.random() < 0.4)),
        arms_down=bool(rng.random() < 0.15),
        blood_hu=float(rng.uniform(110, 330) if contrast else rng.uniform(30, 55)),
        lung_hu=float(np.clip(-892 - 14 * tall + rng.normal(0, 26), -965, -780)),
    )
