"""Everything around the lungs in HU: skin, fat, muscle, bones, mediastinum, abdomen, arms and table."""

import numpy as np

from phantom.realistic.build import Build
from phantom.realistic.fields import Grid, Volume, ball, noise, paint, rise, stamp, tubes
from phantom.realistic.thorax import Thorax

AIR_HU, FAT_HU, MUSCLE_HU, LIVER_HU, WATER_HU = -1000.0, -100.0, 50.0, 58.0, 8.0
# The trachea's way down to the carina, heights as shares of the lungs' height.
CARINA_HEIGHT, CARINA_BACK_MM = 0.62, 5.0


def paint_body(rng: np.random.Generator, grid: Grid, build: Build, thorax: Thorax) -> Volume:
    """Return a chest in HU, (Z, Y, X), with the lungs' place still filled by soft tissue."""
    edge = max(1.0, 0.8 * grid.spacing_mm[2])
    hu = np.full(grid.shape, AIR_HU, np.float32)
    hu = paint(hu, rng.uniform(-700, 60), _table(rng, grid, build) * float(rng.random() < 0.9))
    skin = _skin(rng, grid, build)
    inside = rise(skin, edge)
    hu = paint(hu, FAT_HU + 10 * noise(rng, grid, 15), inside)
    muscle = MUSCLE_HU + 8 * noise(rng, grid, 12)
    patches = rise(4 * noise(rng, grid, (25, 12, 20)) + 3, 4)
    hu = paint(hu, muscle, rise(thorax.wall_mm + build.muscle_mm, edge) * inside * np.maximum(patches, 0.35))
    hu = paint(hu, muscle, rise(thorax.wall_mm + 4.0, edge) * inside)
    hu = _bones(rng, grid, build, thorax, hu, inside)
    cavity = rise(thorax.wall_mm + 1.0, edge)
    hu = paint(hu, _mediastinum(rng, grid, build, thorax), cavity)
    hu = paint(hu, _abdomen(rng, grid, build, thorax), cavity * rise(-thorax.floor_mm, edge))
    return _spine(rng, grid, build, hu, edge)


def _skin(rng: np.random.Generator, grid: Grid, build: Build) -> Volume:
    """Return the distance in mm inside the skin of trunk, breasts, shoulders and arms."""
    wall = build.muscle_mm + build.fat_mm
    up = grid.z / build.height_mm
    half_x = build.width_mm / 2 + wall * rng.uniform(0.9, 1.4)
    half_y = build.depth_mm / 2 + wall * rng.uniform(0.6, 0.9) + 8
    half_x = half_x * (1 - 0.12 * np.clip((up - 0.75) / 0.4, 0, 1) * (not build.arms_down))
    ratio = np.abs(grid.x / half_x) ** 2.4 + np.abs((grid.y - 6) / half_y) ** 2.4
    skin = ((1 - ratio ** (1 / 2.4)) * half_y + 2.0 * noise(rng, grid, 60)).astype(np.float32)
    if build.breast_mm:
        for side in (1, -1):
            centre = np.array([0.45 * build.height_mm, 12 - half_y, side * 0.27 * build.width_mm])
            skin = np.maximum(skin, ball(grid, centre, np.array([80.0, build.breast_mm + 14, 62.0])))
    if build.arms_down:
        for side in (1, -1):
            centre = np.array([0.6 * build.height_mm, rng.uniform(-10, 40), side * (float(np.max(half_x)) + 48)])
            skin = np.maximum(skin, ball(grid, centre, np.array([600.0, 45.0, 45.0])))
    return skin.astype(np.float32)


def _table(rng: np.random.Generator, grid: Grid, build: Build) -> Volume:
    """Return the fraction of each voxel in the shells of a curved table."""
    back = build.depth_mm / 2 + build.muscle_mm + build.fat_mm + 16
    height = grid.y - back + 0.0011 * grid.x**2 * rng.uniform(0.2, 1.4)
    shells = np.exp(-((height / 2.5) ** 2)) + np.exp(-(((height - rng.uniform(15, 35)) / 2.5) ** 2))
    return np.broadcast_to(shells * rise(rng.uniform(170, 260) - np.abs(grid.x), 4), grid.shape).astype(np.float32)


def _bones(rng: np.random.Generator, grid: Grid, build: Build, thorax: Thorax, hu: Volume, inside: Volume) -> Volume:
    """Paint ribs, sternum, scapulae and humeri."""
    angle = np.arctan2(grid.y, np.abs(grid.x)) + 0 * grid.z
    phase = (grid.z - 42 * angle + rng.uniform(0, 30)) / rng.uniform(26, 33)
    ribs = np.exp(-(((thorax.wall_mm + 6) / 3.8) ** 2)) * rise(12 * np.sin(2 * np.pi * phase) - 1, 8)
    front = rise(np.abs(grid.x) - 22, 6)  # cartilage and sternum there
    hu = paint(hu, rng.uniform(250, 480), np.clip(ribs * front, 0, 1))
    top = -build.depth_mm / 2 * 0.98
    sternum = np.array([0.52 * build.height_mm, top - 7, 0.0])
    stamp(hu, grid, rng.uniform(150, 280), sternum, np.array([85.0, 7.0, 19.0]), 3)
    for side in (1, -1):
        base = np.array([0.78 * build.height_mm, 0.30 * build.depth_mm, side * 0.44 * build.width_mm])
        cut, near = grid.window(base, 75)
        across = (near.x - float(base[2])) * side * 0.8 + (near.y - float(base[1])) * 0.6 - rng.uniform(8, 18)
        plate = np.exp(-((across / 3.5) ** 2)) * rise(ball(near, base, np.array([75.0, 60.0, 55.0])), 5)
        hu[cut] = paint(hu[cut], 350.0, plate * rise(-thorax.wall_mm[cut] - 14, 3) * inside[cut])
    return hu


def _spine(rng: np.random.Generator, grid: Grid, build: Build, hu: Volume, edge: float) -> Volume:
    """Paint vertebrae with discs, canal and spinous processes."""
    y = grid.y - 0.40 * build.depth_mm
    body = rise((1 - np.sqrt((grid.x / 18) ** 2 + (y / 17) ** 2)) * 17, edge)
    disc = np.clip(np.cos(2 * np.pi * (grid.z + rng.uniform(0, 25)) / 25) * 4 - 2.6, 0, 1)
    hu = paint(hu, (rng.uniform(130, 280) * (1 - disc) + 80 * disc).astype(np.float32), body + 0 * grid.z)
    arch = np.maximum(np.abs(grid.x) * 0.35 + np.abs(y - 34) - 16, np.abs(grid.x) - 30)
    hu = paint(hu, 320.0, rise(-arch.astype(np.float32), edge) + 0 * grid.z)
    return paint(hu, 35.0, rise((9 - np.sqrt(grid.x**2 + (y - 25) ** 2)).astype(np.float32), edge) + 0 * grid.z)


def _mediastinum(rng: np.random.Generator, grid: Grid, build: Build, thorax: Thorax) -> Volume:
    """Return HU of fat, heart, great vessels, oesophagus and nodes."""
    height = build.height_mm
    fat = rise(3 * noise(rng, grid, 22) + rng.uniform(-2.5, 2.5), 4)
    hu = paint(np.full(grid.shape, 38.0, np.float32), FAT_HU, fat * (grid.y < 45))
    blood = build.blood_hu
    heart_at, heart = thorax.heart_mm, thorax.heart_radii_mm - rng.uniform(1, 7)
    stamp(hu, grid, FAT_HU, heart_at, heart + 7, 4)  # epicardial fat
    stamp(hu, grid, 42.0 + 0.25 * (blood - 40), heart_at, heart, 4)
    stamp(hu, grid, blood, heart_at, heart - 12, 6)
    aorta = rng.uniform(11, 17)
    path = np.array(
        [
            [-0.3, 58, 18],
            [0.35, 52, 20],
            [0.66, 38, 22],
            [0.75, 8, 14],
            [0.74, -18, -6],
            [0.62, -32, -12],
            [0.45, -20, 4],
        ]
    ) * np.array([height, build.depth_mm / 185, 1.0])
    cava = np.array([[0.95, -20, -24], [0.45, -16, -28]]) * np.array([height, 1.0, 1.0])
    lungs_artery = np.array([[0.50, -25, 12], [0.60, -12, 16], [0.58, 8, -34]]) * np.array([height, 1.0, 1.0])
    for line, radius in ((path, aorta), (cava, 9.0), (lungs_artery, 12.0)):
        hu = paint(hu, blood, tubes(grid, line[:-1], line[1:], np.full(len(line) - 1, radius)))
    gullet = np.array([[1.05, 26, 4], [0.6, 30, 6], [0.1, 34, 8]]) * np.array([height, 1.0, 1.0])
    hu = paint(hu, 35.0, tubes(grid, gullet[:-1], gullet[1:], np.full(2, 8.0)))
    if rng.random() < 0.4:
        hu = paint(hu, -800.0, tubes(grid, gullet[:-1], gullet[1:], np.full(2, rng.uniform(1.5, 5))))
    return hu


def _abdomen(rng: np.random.Generator, grid: Grid, build: Build, thorax: Thorax) -> Volume:
    """Return HU below the diaphragm: liver on the right, spleen, stomach and colon with air on the left, fat."""
    liver = LIVER_HU + rng.uniform(-25, 15) + (0.4 * (build.blood_hu - 40))
    hu = np.where(grid.x < rng.uniform(-5, 45), liver, 45.0).astype(np.float32)
    hu = np.broadcast_to(hu, grid.shape).copy()
    fat = rise(3 * noise(rng, grid, 35) - rng.uniform(-1, 4), 4) * (grid.x > 0)
    hu = paint(hu, FAT_HU, fat)
    for _ in range(int(rng.integers(1, 5))):
        depth = rng.uniform(12, 50)
        centre = np.array([build.dome_mm - depth, rng.uniform(-65, 10), rng.uniform(15, 100)])
        radii = rng.uniform((10, 14, 14), (26, 34, 38))
        cut, near = grid.window(centre, float(radii.max()) + 14)
        bowel = ball(near, centre, radii) + 3 * noise(rng, near, 18)
        level = near.y < centre[1] + rng.uniform(-10, 25)  # fluid lies below the gas
        hu[cut] = paint(paint(hu[cut], 35.0, rise(bowel + 4, 3)), -930.0, rise(bowel, 3) * level)
    if rng.random() < 0.25:  # a colon in front of the liver, or below the right dome
        centre = np.array([build.dome_mm - rng.uniform(10, 45), -60.0, rng.uniform(-70, 0)])
        stamp(hu, grid, -900.0, centre, rng.uniform((8, 12, 20), (20, 24, 50)), 3)
    return hu
