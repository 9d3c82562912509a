"""Tables of figures for a terminal of any width; no digit is ever cut off.

Rich shortens cells where a table is too wide. Here a figure that does not fit on one line has its interval below it,
columns that do not fit side by side follow in further tables with the same rows, and where not even one column fits
beside the labels, each row is stacked: its labels, and its figures below them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

# Each column has a space before it, and is divided from the next by another; so are the edges.
_GAP, _EDGES = 2, 1
# Labels are folded where they are wider than one part in so many of the table.
_SHARE = 3


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Parameters
    ----------
    labels : sequence of str
        What the row is about; a cell for each label column.
    figures : sequence of str
        A cell for each column of figures; none for a heading within the table.
    style : str
        Of Rich, such as ``"dim"``.
    """

    labels: Sequence[str]
    figures: Sequence[str] = ()
    style: str = ""


@dataclass(frozen=True)
class FigureTable:
    """A table that can be printed with Rich.

    Parameters
    ----------
    title : str
    labels : sequence of str
        Headings of the label columns, which are repeated where the table is continued.
    columns : sequence of str
        Headings of the columns of figures.
    rows : sequence of Row
        One without figures begins a section.
    caption : str
    """

    title: str
    labels: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Row]
    caption: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | Text]:
        """Yield the table, the tables in which it fits, or its rows one below the other."""
        labels = [[name, *(row.labels[place] for row in self.rows)] for place, name in enumerate(self.labels)]
        figures = [
            [name, *(row.figures[place] for row in self.rows if row.figures)] for place, name in enumerate(self.columns)
        ]
        room = options.max_width - _EDGES
        widest = max((_least(cells) for cells in figures), default=0) + _GAP
        least = [max(_least_label(cell, room // _SHARE) for cell in cells) for cells in labels]
        if sum(least) + _GAP * len(least) + widest > room:
            yield from self._stacked(options.max_width)
            return
        start = _widths(labels, least, room - widest)
        groups = _groups([_least(cells) for cells in figures], room - sum(start) - _GAP * len(start))
        for number, group in enumerate(groups):
            room_left = room - sum(start) - _GAP * len(start)
            shown = [figures[place] for place in group]
            widths = _widths(shown, [_least(cells) for cells in shown], room_left)
            last = number == len(groups) - 1
            yield self._table(start, dict(zip(group, widths, strict=True)), first=number == 0, last=last)

    def _table(self, start: Sequence[int], widths: dict[int, int], *, first: bool, last: bool) -> Table:
        out = Table(
            title=Text(self.title, style="bold") if first else None,
            title_justify="left",
            caption=self.caption if last else None,
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 0, 0, 1),
        )
        for name, width in zip(self.labels, start, strict=True):
            out.add_column(Text(name), width=width, overflow="fold")
        for place, width in widths.items():
            out.add_column(Text(self.columns[place]), width=width, overflow="fold", justify="right")
        for row in self.rows:
            if not row.figures:
                out.add_section()
            cells = [_folded(row.figures[place], width) if row.figures else "" for place, width in widths.items()]
            out.add_row(*(Text(cell) for cell in (*row.labels, *cells)), style=row.style)
        return out

    def _stacked(self, width: int) -> Iterator[Text]:
        yield Text(self.title, style="bold")
        for row in self.rows:
            if row.figures:
                yield Text(", ".join(self._labels(row)), style=row.style)
            else:
                yield Text(f"\n{' '.join(row.labels).strip()}", style=row.style)
            for name, figure in zip(self.columns, row.figures, strict=False):
                yield Text("\n".join(_named(name, figure, width)), style=row.style, no_wrap=True, overflow="ignore")
        if self.caption:
            yield Text(f"\n{self.caption}", style="dim italic")
        yield Text("")

    def _labels(self, row: Row) -> Iterator[str]:
        """The labels of a row, with the name of their column where they do not speak for themselves."""
        alone = len(self.labels) == 1 or not all(row.figures for row in self.rows)
        for name, cell in zip(self.labels, (label.strip() for label in row.labels), strict=True):
            if cell:
                yield cell if alone and not cell[0].isdigit() else f"{name} {cell}"


def _named(name: str, figure: str, width: int) -> list[str]:
    """A figure after its name, at the right end of a line, or of the lines that follow it where there is no room.

    >>> _named("AUC", "0.974 [0.921–1.000]", 26)
    ['  AUC 0.974 [0.921–1.000]']
    >>> _named("balanced accuracy", "0.91 [0.89–0.93]", 26)
    ['  balanced accuracy', '         0.91 [0.89–0.93]']
    """
    start, room = f"  {name}", width - 1
    if cell_len(start) + 1 + cell_len(figure) <= room:
        return [start + figure.rjust(room - cell_len(start))]
    lines = [figure] if cell_len(figure) <= room else _parts(figure)
    return [start, *(line.rjust(room) for line in lines)]


def _least_label(label: str, enough: int) -> int:
    """The width in which a label can be folded between its words, its indent included, in lines that are not tiny."""
    longest = cell_len(label) - cell_len(label.lstrip()) + max(map(cell_len, label.split()), default=0)
    return max(longest, min(cell_len(label), enough))


def _groups(widths: Sequence[int], room: int) -> list[list[int]]:
    """The columns that fit side by side; one that is wider than all of the room stands alone."""
    groups: list[list[int]] = [[]]
    left = room
    for place, width in enumerate(widths):
        if groups[-1] and width + _GAP > left:
            groups.append([])
            left = room
        groups[-1].append(place)
        left -= width + _GAP
    return groups


def _widths(columns: Sequence[Sequence[str]], least: Sequence[int], room: int) -> list[int]:
    """The width of each column: its least, that of its whole cells, or of its whole heading, too."""
    left = room - _GAP * len(columns)
    figures = [max(least[place], *map(cell_len, cells[1:])) for place, cells in enumerate(columns)]
    whole = [max(map(cell_len, cells)) for cells in columns]
    widths = list(least)
    # Those that need little come first, so that as many columns as possible have figures of one line.
    for wanted in (figures, whole):
        for place in sorted(range(len(columns)), key=lambda place: wanted[place] - widths[place]):
            if sum(widths) + wanted[place] - widths[place] <= left:
                widths[place] = wanted[place]
    return widths


def _folded(figure: str, width: int) -> str:
    return figure if cell_len(figure) <= width else "\n".join(_parts(figure))


def _least(cells: Sequence[str]) -> int:
    """The width of a column in which no word of its heading, and no part of a figure, is broken."""
    heading, *figures = cells
    parts = [*heading.split(), *(part for figure in figures for part in _parts(figure))]
    return max(map(cell_len, parts), default=0)


def _parts(figure: str) -> list[str]:
    """A figure and its interval, or two figures, which may be on lines of their own.

    >>> _parts("0.974 [0.921–1.000]"), _parts("300 / ≥ 0.00")
    (['0.974', '[0.921–1.000]'], ['300 /', '≥ 0.00'])
    """
    return re.split(r" (?=\[)|(?<=/) ", figure)
