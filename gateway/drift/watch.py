"""x"""
from __future__ import annotations


class Watch:
    every: float = 0.0

    def __init__(self, settings: object, database: object) -> None: ...

    def run(self) -> None: ...
