"""Sandstone: train on five slices, test on the sixth, in turn; clean and noisy, beside the forest."""

from common import DATA, copied, fit, parse_out, record, score

CLASSES = ("background=#0000ff", "quartz=#ff0000", "clay=#00ff00", "pyrite=#ffff00")
TESTED = ("Sandstone_Versa0150.tif", "Sandstone_Versa0050.tif")
MINUTES = 5.0
NOISE = (0.0, 5000.0)


def main() -> None:
    out = parse_out(__doc__ or "")
    images, labels = DATA / "sandstone/images", DATA / "sandstone/labels"
    names = sorted(path.name for path in labels.iterdir())
    for tested in TESTED:
        kept = copied(labels, [name for name in names if name != tested], out / "sandstone_labels")
        model = out / f"sandstone_{tested[-8:-4]}.tomoseg"
        run = fit(images, kept, model, minutes=MINUTES, noise_std=NOISE, classes=CLASSES)
        for noise_std in NOISE:
            scores = score(model, images, labels, out / f"{model.stem}_{noise_std:.0f}", noise_std=noise_std)
            record(out, "sandstone", tested=tested, minutes=MINUTES, **run, **scores)


if __name__ == "__main__":
    main()
