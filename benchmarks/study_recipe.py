"""Recipe: which settings learn fastest. Five labelled slices of a phantom, a minute each, scored on three slices."""

from pathlib import Path

from common import PHANTOM_CLASSES, copied, fit, make_phantom, parse_out, record, score

MINUTES = 1.0
FIVE = (8, 32, 56, 80, 99)
TEST = (138, 148, 157)
RECIPES = {
    "batch 8, settle 0.2": "settle = 0.2\n[patches]\nbatch = 8",
    "batch 8, settle 0.2, rate 6e-3": "settle = 0.2\nlearning_rate = 6e-3\n[patches]\nbatch = 8",
    "batch 8, settle 0.2, rate 1.2e-2": "settle = 0.2\nlearning_rate = 1.2e-2\n[patches]\nbatch = 8",
    "batch 8, settle 0.5": "settle = 0.5\n[patches]\nbatch = 8",
    "batch 4, settle 0.2": "settle = 0.2\n[patches]\nbatch = 4",
    "batch 2, settle 0.2": "settle = 0.2\n[patches]\nbatch = 2",
    "batch 2, settle 0.4": "settle = 0.4\n[patches]\nbatch = 2",
    "batch 2, settle 0.4, no dropout": "settle = 0.4\ndropout = 0.0\n[patches]\nbatch = 2",
    "batch 2, settle 0.7": "settle = 0.7\n[patches]\nbatch = 2",
    "batch 2, settle 0.2, rate 6e-3": "settle = 0.2\nlearning_rate = 6e-3\n[patches]\nbatch = 2",
    "batch 1, settle 0.2": "settle = 0.2\n[patches]\nbatch = 1",
    "batch 2 of 96 x 96, settle 0.2": "settle = 0.2\n[patches]\nbatch = 2\nsize = 96",
    "batch 4 of 64 x 64, settle 0.2": "settle = 0.2\n[patches]\nbatch = 4\nsize = 64",
}


def recipe_file(out: Path, text: str) -> str:
    path = out / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def main() -> None:
    out = parse_out(__doc__ or "")
    folder = make_phantom(out, (160, 501, 501))
    images, labels = folder / "images", folder / "labels"
    five = copied(labels, [f"slice_{z:04d}.tif" for z in FIVE], out / "five_labels")
    test = copied(labels, [f"slice_{z:04d}.tif" for z in TEST], out / "three_labels")
    for name, text in RECIPES.items():
        model, recipe = out / "recipe.tomoseg", recipe_file(out, text)
        run = fit(images, five, model, minutes=MINUTES, recipe=recipe, context=2, classes=PHANTOM_CLASSES)
        for noise_std in (0.0, 5000.0):
            scores = score(model, images, test, out / "recipe_scores", noise_std=noise_std)
            record(out, "recipe", recipe=name, minutes=MINUTES, **run, **scores)


if __name__ == "__main__":
    main()
