"""The command line: one verb a line, its options read off its settings, its module loaded when it is chosen."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from tomoseg import __version__
from tomoseg.errors import TomosegError

_REFUSED = re.compile(
    r"validation error for \w+ (?:Value error, |(?P<field>\w+)\S* (?:Value error, )?)(?P<reason>.+?) "
    r"\[type=\w+, input_value=(?P<value>.+?), input_type"
)

DONE, OUR_FAULT, USERS_INPUT, INTERRUPTED = 0, 1, 2, 130

# How often a thread of torch's (GNU OpenMP) looks for its next share before it sleeps. With the library's own 300,000,
# beside another program on the same cores, most of the time goes into waiting for a thread that is not running:
# training is 25 times slower, with this twice to three times. Undisturbed there is no difference.
_LOOKS = ("GOMP_SPINCOUNT", "3000")


@dataclass(frozen=True)
class Verb:
    """A verb: its settings in `tomoseg.workflow.<name>`, what it does, and a command that works."""

    settings: str
    does: str
    example: str


VERBS = {
    "demo": Verb("DemoSettings", "the tour on a phantom, three minutes on two cores", "tomoseg demo -o demo"),
    "phantom": Verb(
        "PhantomSettings", "make a tomogram whose truth is known", "tomoseg phantom -o phantom --shape 64 256 256"
    ),
    "inspect": Verb(
        "InspectSettings", "shape, grey levels, noise and blur of a scan", "tomoseg inspect phantom/images -o look"
    ),
    "train": Verb(
        "TrainSettings",
        "learn from labelled slices",
        "tomoseg train phantom/images phantom/labels -o model.tomoseg --minutes 1 --test 48:64",
    ),
    "evaluate": Verb(
        "EvaluateSettings",
        "score a model on labelled slices that it has not seen",
        "tomoseg evaluate model.tomoseg phantom/images phantom/labels -o test --noise-std 5000",
    ),
    "study": Verb(
        "StudySettings",
        "what noise does to a segmentation, and how much of it may be had",
        "tomoseg study noise phantom/images phantom/labels -o study --quick",
    ),
    "predict": Verb(
        "PredictSettings",
        "segment a volume, whatever its size",
        "tomoseg predict model.tomoseg phantom/images -o segmented.zarr --roi 0:8,:,:",
    ),
    "check": Verb(
        "CheckSettings",
        "will a model hold on a new scan: a traffic light, and what to label next",
        "tomoseg check model.tomoseg phantom/images",
    ),
    "adapt": Verb(
        "AdaptSettings",
        "fit a model to a new scan without labels",
        "tomoseg adapt model.tomoseg phantom/images -o adapted.tomoseg",
    ),
    "suggest": Verb(
        "SuggestSettings",
        "which slices to label next, and whether it is still worth it",
        "tomoseg suggest model.tomoseg phantom/images",
    ),
    "quantify": Verb(
        "QuantifySettings",
        "fractions, areas, triple lines, connectivity of a segmented volume",
        "tomoseg quantify segmented.zarr -o numbers --voxel-size 0.018",
    ),
    "export": Verb("ExportSettings", "write a model as ONNX", "tomoseg export model.tomoseg -o model.onnx"),
    "convert": Verb(
        "ConvertSettings", "write a volume in another format", "tomoseg convert phantom/images phantom.zarr"
    ),
}


def overview() -> str:
    """Return the help of the whole tool."""
    lines = ["tomoseg turns a tomogram and some labelled slices into a segmented volume, and says how far to trust it",
             "", "usage: tomoseg VERB ... (tomoseg VERB --help says more)", ""]  # fmt: skip
    lines += [f"  {name:10}{verb.does}" for name, verb in VERBS.items()]
    return "\n".join([*lines, "", f"try: {VERBS['demo'].example}"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault(*_LOOKS)  # read when torch is loaded
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one verb; return 0 when done, 2 for the user's input, 1 for a fault of ours, 130 after Ctrl-C."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())  # noqa: T201 (this is the door)
        return DONE
    if arguments[0] == "--version":
        print(f"tomoseg {__version__}")  # noqa: T201
        return DONE
    if arguments[0] not in VERBS:
        _complain(f"there is no verb {arguments[0]!r}; the verbs are {', '.join(VERBS)}")
        return USERS_INPUT
    try:
        return _run_verb(arguments[0], arguments[1:])
    except TomosegError as error:
        _complain(str(error))
        return USERS_INPUT
    except BrokenPipeError:  # whoever read our output, like `head`, has had enough
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 (so that nothing is flushed into the pipe at exit)
        return DONE
    except KeyboardInterrupt:
        _complain("interrupted; what is not finished says so, or is not there")
        return INTERRUPTED
    except Exception:
        traceback.print_exc()
        _complain("this is a fault of tomoseg, not of your input; please report it with the lines above")
        return OUR_FAULT


def _run_verb(name: str, arguments: Sequence[str]) -> int:
    import tyro

    verb = VERBS[name]
    module = import_module(f"tomoseg.workflow.{name}")
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            settings = tyro.cli(
                getattr(module, verb.settings),
                prog=f"tomoseg {name}",
                description=f"{verb.does[0].upper()}{verb.does[1:]}.",
                args=list(arguments),
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as end:  # after its help, or after a complaint of its own about an option
        if end.code in (None, 0):
            print(f"example: {verb.example}")  # noqa: T201
            return DONE
        _complain(f"{one_line(complaint.getvalue())}. See tomoseg {name} --help")
        return USERS_INPUT
    from tomoseg.workflow.console import Console

    module.run(settings, Console(quiet=settings.quiet))
    return DONE


def one_line(box: str) -> str:
    r"""Return a complaint about options, which comes as a framed page, as one line.

    Examples
    --------
    >>> one_line("╭─ Value error ─╮\n│ Error parsing --seed: │\n│ no number │\n│ ───── │\n│ For full helptext │")
    'Error parsing --seed: no number'
    """
    framed = [line.strip("│╰╯ ") for line in box.strip().splitlines()[1:]]  # the first is a title; no frame in ASCII
    parts = [" ".join(part.split()) for part in re.split("[─-]{4,}", "\n".join(framed))]
    text = "; ".join(part for part in parts if part and not part.startswith(("For full helptext", "Argument helptext")))
    refused = _REFUSED.search(text)
    if refused is None:
        return re.sub(r"\[/?bold\]", "", text).rstrip(".")
    if refused["field"] is None:  # what was given does not fit together
        return refused["reason"]
    return f"--{refused['field'].replace('_', '-')} {refused['value']}: {refused['reason'].lower()}"


def _complain(text: str) -> None:
    sys.stderr.write(f"tomoseg: {text}\n")
