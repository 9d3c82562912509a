"""The file that all benchmarks write their sections to."""

from __future__ import annotations

import datetime
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")


def write_section(title: str, command: str, lines: Sequence[str]) -> None:
    """Replace the section with this title, or add it; the other sections stay as they are.

    With ``--quick`` on the command line, print it: what is measured in a hurry takes no other figure's place.
    """
    if "--quick" in sys.argv[1:]:
        print("\n".join([f"## {title}", "", *lines, "", f"{RESULTS.name} stays as it is: this was --quick."]))
        return
    text = (
        RESULTS.read_text() if RESULTS.exists() else "# Results\n\nEach section is written by the command it names.\n"
    )
    cpu = (
        re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else None
    )
    machine = f"{cpu.group(1) if cpu else platform.processor()}, Python {platform.python_version()}"
    body = "\n".join([f"## {title}", "", f"`{command}`, {datetime.date.today()}, {machine}.", "", *lines, ""])
    sections = re.split(r"(?m)^(?=## )", text)
    kept = [section for section in sections if not section.startswith(f"## {title}\n")]
    RESULTS.write_text("\n".join(part.strip() + "\n" for part in [*kept, body]))
