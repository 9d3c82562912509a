"""What the commands print."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from pathlib import Path

    from recmia.cache import ArrayStore
    from recmia.game.cost import Cost
    from recmia.render.tables import FigureTable
    from recmia.results.audit import AuditResult
    from recmia.results.folder import Result
    from recmia.results.gate import Gate
    from recmia.results.sweep import SweepResult

# Where the output is a file, there is room for the table.
NARROW, WIDE = 100, 130


def console(width: int = NARROW, *, stderr: bool = False) -> Console:
    """Return the console of a command: as wide as the terminal, or `width` where there is none."""
    out = Console(emoji=False, highlight=False, stderr=stderr)
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out.width = width
    return out


def tell_data(out: Console, result: AuditResult) -> None:
    """Say what was audited, and what was dropped of it."""
    data = result.provenance["data"]
    out.print(
        f"data: {escape(data['source'])}: {data['rows_kept']:,} interactions of {data['users']:,} users", soft_wrap=True
    )
    tell_reading(out, data)


def tell_cost(out: Console, cost: Cost, elapsed: float) -> None:
    """Say what a run would cost; `elapsed` is what was done before, which the run does, too: imports, loading."""
    from recmia.render.progress import duration

    stored = f", {cost.stored:,} of which are in the store" if cost.stored else ""
    rows = {
        "models": f"{cost.models:,}{stored}",
        "questions": f"{cost.questions:,}",
        "time": f"about {duration(elapsed + cost.seconds)}",
        "memory": f"about {_size(cost.memory)}",
        "disk": f"{_size(cost.disk)} in the store",
    }
    for name, words in rows.items():
        out.print(f"{name:<10} {words}", soft_wrap=True)
    out.print("nothing was written; run it without --dry-run", style="dim", soft_wrap=True)


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"


def tell_reading(out: Console, data: Mapping[str, Any]) -> None:
    """Say of the data of a result which column was taken for what, what was dropped, and what is worth knowing."""
    from recmia.data.datasets import what_was_taken

    if data["columns"]:
        out.print(f"  {escape(what_was_taken(data['columns']))}", soft_wrap=True)
    for reason, count in data.get("dropped", {}).items():
        out.print(f"  dropped {count:,}: {escape(reason)}")
    if "order" in data:
        out.print(f"  order: {escape(data['order'])}", soft_wrap=True)
    for note in data["notes"]:
        out.print(f"  note: {escape(note)}", style="dim", soft_wrap=True)


def tell_store(out: Console, lists: ArrayStore) -> None:
    """Say which entries of the store were damaged, and whether it could be used at all."""
    folder = escape(str(lists.folder))
    if lists.damaged:
        damaged = len(set(lists.damaged))
        out.print(f"  note: damaged entries of {folder}, computed anew: {damaged}", style="dim", soft_wrap=True)
    if lists.refused:
        out.print(
            f"  note: the cache {folder} cannot be used ({escape(lists.refused)}), so the next run computes all anew; "
            "name a folder: --store",
            style="dim",
            soft_wrap=True,
        )


def tell_gate(out: Console, gate: Gate) -> None:
    """Say what the gate found."""
    for line in str(gate).splitlines():
        told = escape(line)
        out.print(told if gate.passed else told.replace("gate:", "[bold red]gate:[/]", 1), soft_wrap=True)


def tell_errors(out: Console, result: SweepResult, where: str = "") -> None:
    """Say which cells of a sweep failed, and why."""
    for failure in result.errors:
        cell = ", ".join(f"{key}={failure[key]}" for key in result.axes)
        out.print(f"[bold red]failed:[/] {escape(where + cell)}: {escape(failure['error'])}", soft_wrap=True)


def tell_result(out: Console, result: Result) -> None:
    """Print the tables and the findings of a result."""
    from recmia.render import text

    for table in text.result_tables(result):
        tell_block(out, table)
    if words := text.result_words(result):
        tell_block(out, escape(words))


def tell_block(out: Console, block: FigureTable | str) -> None:
    """Print a table or a text; where the output is a file, without the blanks that fill its lines."""
    if out.is_terminal:
        out.print(block)
        return
    with out.capture() as captured:
        out.print(block)
    out.out("\n".join(line.rstrip() for line in captured.get().split("\n")), end="", highlight=False)


def tell_written(out: Console, folder: Path, content: str, then: str = "") -> None:
    """Say where the results are, and the command that most people need now, if there is one."""
    out.print(f"\nwritten to {escape(str(folder))} ({content})", soft_wrap=True)
    if then:
        out.print(f"next: {escape(then)}", soft_wrap=True)
