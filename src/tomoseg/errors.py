"""Everything that tomoseg raises on purpose.

::

    TomosegError
    └── InputError            the user's input; the command line ends with exit code 2
        ├── VolumeError       an image file or folder that cannot be read as a tomogram
        ├── LabelError        label pictures that do not say which class a pixel is
        ├── PairingError      images and labels that do not belong together
        ├── SplitError        too few labelled slices, or none left, for what was asked
        ├── ModelFileError    a file that is not a model of this version
        ├── SettingError      an option or setting outside its range
        └── OutputError       a place that cannot be written
            └── BegunOtherwiseError   an unfinished output that can't go on with what is asked for now, or here

Each message is one line: what was wrong, with its value; where; and what would be right.
"""


class TomosegError(Exception):
    """Root of all errors that tomoseg raises on purpose."""


class InputError(TomosegError):
    """Something that the user gave; the message says what would be right."""


class VolumeError(InputError):
    """An image file or folder that cannot be read as a tomogram."""


class LabelError(InputError):
    """Label pictures that do not say which class a pixel is."""


class PairingError(InputError):
    """Images and labels that do not belong together."""


class SplitError(InputError):
    """Too few labelled slices, or none left, for what was asked."""


class ModelFileError(InputError):
    """A file that is not a model of this version."""


class SettingError(InputError):
    """An option or setting outside its range."""


class OutputError(InputError):
    """A place that cannot be written."""


class BegunOtherwiseError(OutputError):
    """An unfinished output that can't go on with what is asked for now, or here."""
