"""Programs and named pipes as actors: `Program` (an OTP port) and `Fifo`.

Rule: each is an ordinary actor class, so whatever starts, supervises and reaches actors does so with these. Bytes come
and go through non-blocking descriptors on the actor's own event loop; nothing is read that nobody takes, and nothing is
taken that can't be written, so memory stays bounded by mailboxes, pipes and one chunk.
"""

from __future__ import annotations

from ..errors import FramingError
from .fifo import Fifo
from .program import Program

__all__ = ["Fifo", "FramingError", "Program"]
