"""Files as SimpleITK writes them, and what it reads in those of tomoseg: `make oracle`."""

import gzip
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

SHAPE = (4, 6, 9)
SIZE_UM = (20.0, 18.0, 19.0)
WRITTEN = {
    "plain.mha": {}, "zlib.mha": {"useCompression": True}, "apart.mhd": {}, "gzip.nrrd": {"useCompression": True},
    "plain.nrrd": {}, "plain.nii": {}, "gzip.nii.gz": {},
}  # fmt: skip
READ = ("a.mha", "a.nrrd", "a.nii", "a.nii.gz")


def values(dtype: str) -> np.ndarray:
    """Return the voxels of every file here: no two planes, rows or columns are alike."""
    z, y, x = np.indices(SHAPE)
    return (100 * z + 10 * y + x + (0.5 if dtype == "float32" else 0)).astype(dtype)


def main(python: str, folder: Path) -> None:
    """Write files into `folder`, and let SimpleITK read what tomoseg, in the interpreter `python`, makes of them."""
    for dtype in ("uint8", "uint16", "int16", "float32"):
        image = sitk.GetImageFromArray(values(dtype))
        image.SetSpacing([edge / 1000 for edge in reversed(SIZE_UM)])
        for name, options in WRITTEN.items():
            sitk.WriteImage(image, str(folder / f"{dtype}_{name}"), **options)
    found = {}
    with tempfile.TemporaryDirectory() as place:
        for name in READ:
            path = Path(place) / name
            command = [python, "-m", "tomoseg", "convert", str(folder / "uint16_plain.mha"), str(path), "--quiet"]
            subprocess.run(command, check=True)
            image = sitk.ReadImage(str(path))
            assert np.array_equal(sitk.GetArrayFromImage(image), values("uint16")), name
            assert np.allclose(image.GetSpacing()[::-1], np.divide(SIZE_UM, 1000)), name
            content = path.read_bytes()
            found[name] = hashlib.sha256(gzip.decompress(content) if path.suffix == ".gz" else content).hexdigest()
    record = {"SimpleITK": sitk.Version.VersionString(), "shape": SHAPE, "voxel_size_um": SIZE_UM, "read": found}
    (folder / "reference.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
