"""What checks annotations while tests run: beartype, with an int where a float is asked for, as Python has it."""

from beartype import BeartypeConf, beartype

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
