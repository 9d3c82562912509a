"""The command line.

Exit codes: 0 done, 1 a limit of the gate failed or a promise is broken, 2 usage or data error, 3 a bug,
130 interrupted, by Ctrl-C, SIGTERM or SIGHUP.
"""

from recmia.cli.main import app, main

__all__ = ["app", "main"]
