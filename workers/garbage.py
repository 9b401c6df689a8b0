"""Python's collector in a process that lives long and makes no cycles to speak of."""

import gc
from typing import Final

_YOUNG_OBJECTS: Final = 20_000
"""Before the collector looks at them; at Python's 700 it runs several times for each query, and finds nothing."""


def spare_garbage() -> None:
    """What is there by now stays: the collector leaves it alone, and looks at the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)
