"""Phantom of 160 x 501 x 501: all slices labelled or five, recipe fast or the poster's, four minutes each."""

from common import PHANTOM_CLASSES, copied, fit, make_phantom, parse_out, record, score

FIVE = (8, 32, 56, 80, 99)
TEST = range(136, 160)
GAP = 24
MINUTES = 4.0
RUNS = {
    "five slices": {"context": 2},
    "all slices": {"context": 2, "test": f"{TEST.start}:{TEST.stop}", "gap": GAP},
    "all slices, poster's recipe": {"recipe": "poster", "test": f"{TEST.start}:{TEST.stop}", "gap": GAP},
}


def main() -> None:
    out = parse_out(__doc__ or "")
    folder = make_phantom(out, (160, 501, 501))
    images, labels = folder / "images", folder / "labels"
    five = copied(labels, [f"slice_{z:04d}.tif" for z in FIVE], out / "five_labels")
    test = copied(labels, [f"slice_{z:04d}.tif" for z in TEST], out / "test_labels")
    for name, settings in RUNS.items():
        model = out / f"phantom_{name.replace(' ', '_').replace(',', '').replace(chr(39), '')}.tomoseg"
        given = five if name.startswith("five") else labels
        run = fit(images, given, model, minutes=MINUTES, classes=PHANTOM_CLASSES, **settings)
        for noise_std in (0.0, 5000.0):
            scores = score(model, images, test, out / f"{model.stem}_{noise_std:.0f}", noise_std=noise_std)
            record(out, "phantom", run=name, minutes=MINUTES, **run, **scores)


if __name__ == "__main__":
    main()
