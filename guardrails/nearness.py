"""Vectors of an embedder, made ready for cosines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from guardrails.text_checks import CheckUnavailable

Vectors = npt.NDArray[np.float64]


def unit(vectors: Sequence[Sequence[float]], count: int) -> Vectors:
    """Rows of length 1, or 0 where a vector is none. Raises CheckUnavailable for anything but `count` vectors."""
    try:
        given = np.asarray(vectors, dtype=np.float64)
    except (ValueError, TypeError):
        given = np.zeros(0)
    if given.ndim != 2 or len(given) != count or not np.isfinite(given).all():
        raise CheckUnavailable("the embedder did not give a vector for each text")
    lengths = np.linalg.norm(given, axis=1, keepdims=True)
    return np.asarray(given / np.where(lengths == 0, 1, lengths), dtype=np.float64)
