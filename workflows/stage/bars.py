"""Bars of the running stages, redrawn in place by rich."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from workflows.stage.progress import StageProgress

WIDE = 100
"""Columns from which on rejects have a column of their own."""


class Bars:
    """A line a running stage; whatever is printed goes above them."""

    def __init__(self, output: IO[str]) -> None:
        self._console = Console(file=output, force_terminal=True, highlight=False, markup=False)
        self._running: list[StageProgress] = []
        self._spinner = Spinner("dots")
        self._live = Live(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    @property
    def is_empty(self) -> bool:
        return not self._running

    @contextlib.contextmanager
    def showing(self, progress: StageProgress) -> Iterator[None]:
        self._running.append(progress)
        try:
            yield
        finally:
            self._running.remove(progress)

    def print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def close(self) -> None:
        self._live.stop()

    def _render(self) -> Table:
        wide = self._console.width >= WIDE
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, ratio=2, overflow="ellipsis", min_width=10)
        table.add_column(ratio=3, min_width=6)
        for _ in range(4 if wide else 3):
            table.add_column(justify="right", no_wrap=True)
        for stage in list(self._running):
            rate = stage.detail or (f"{stage.tokens_per_s:,.0f} tok/s" if stage.tokens else "")
            bar = ProgressBar(total=max(1, stage.total), completed=stage.done, pulse=stage.eta_s is None)
            cells = [f"{stage.done:,}/{stage.total:,}", rate, stage.time_left()]
            if wide:
                cells.insert(1, f"{stage.rejects} rejected")
            table.add_row(self._spinner, Text(stage.name, style="bold"), bar, *(Text(cell) for cell in cells))
        return table
