"""An actor whose module imports NumPy, as users' modules do; in a file of its own, so that nothing else pays for it."""

from __future__ import annotations

from typing import Any

import numpy

from ..actor import Actor
from ..shared import Shared


class Numeric(Actor):
    def total(self) -> float:
        return float(numpy.zeros(1).sum())

    def add(self, shared: Shared[numpy.ndarray[Any, Any]]) -> float:
        """Reads all of it."""
        self.kept = shared
        return float(shared.value.sum())
