"""Standard streams whose failing ends no run: what was found decides the exit code, and not who reads it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

from recmia.atomic import reason


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Let a block print to streams that break, are full, closed, or lack a character.

    What cannot be encoded is replaced. What cannot be written is lost; unless the reader went away (``| head``), a line
    on the standard error says so in the end.
    """
    with ExitStack() as ended:
        errors, output = (_Lasting(stream or ended.enter_context(_nowhere())) for stream in (sys.stderr, sys.stdout))
        ended.enter_context(redirect_stderr(cast("TextIO", errors)))
        ended.enter_context(redirect_stdout(cast("TextIO", output)))
        try:
            yield
        finally:
            output.flush()
            if output.refused:
                errors.write(f"note: not all of the output could be written: {output.refused}\n")
            errors.flush()


def _nowhere() -> TextIO:
    return open(os.devnull, "w")  # noqa: PTH123


class _Lasting:
    """A text stream of the process, on which nothing fails; `refused` is why something was lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.refused = ""
        # Streams that a test or a notebook puts in their place need not have it.
        if hasattr(stream, "reconfigure") and stream.errors == "strict":
            stream.reconfigure(errors="replace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, or lose it."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Write what was held back, or lose it."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Send what is still to come, and what the interpreter writes at its end, nowhere."""
        if error.errno != errno.EPIPE:
            self.refused = reason(error)
        with _nowhere() as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())
