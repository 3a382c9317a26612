"""Who is restarted when one child fails: OTP's strategies.

Rule: pure, ids in and ids out, in start order. The caller stops them in reverse and starts them in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]


def affected(strategy: Strategy, children: Sequence[int], failed: int) -> tuple[int, ...]:
    """The children to stop and start again, in start order. ValueError if the failed one is not among `children`."""
    at = children.index(failed)
    match strategy:
        case "one_for_one":
            return (failed,)
        case "one_for_all":
            return tuple(children)
        case "rest_for_one":
            return tuple(children[at:])
