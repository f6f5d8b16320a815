"""From a tomogram and a few labelled slices to a segmented volume, and how far to trust it.

Read the modules in the order of the experiment: `volume`, `window`, `labels`, `slices`, `augment`, `unet`, `train`,
`model_file`, `tiles`, `predict`, `evaluate`, `report`. Importing the package loads nothing heavy.
"""

__version__ = "0.1.0"
