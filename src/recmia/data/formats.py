"""File formats: how each becomes a frame with the columns that stand in the file, told by its bytes.

What is packed is unpacked, and text becomes UTF-8 with line feeds before anything else looks at it. A format is one
function, from a `_File`, a separator and a `Namer` to a `Raw`, and one entry in `_FORMATS`; what is none of recmia's is
one entry in `_FOREIGN`, with what helps. Text that is UTF-8 already is read where it lies, without a copy.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import itertools
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from recmia.errors import DataError

# From the cells of the first line of a text to the names of its columns; None if the line holds them itself.
Namer = Callable[[Sequence[str]], Sequence[str] | None]

_BYTES_AT_ONCE = 2**20
_HEAD = 2**16
_LINES_LOOKED_AT = 20
_CELLS_SHOWN, _CELL_SHOWN = 8, 40
SEPARATORS = (",", "\t", ";", "|", "::")
# Stands between fields where the reader cannot take the separator itself: no text has it.
_UNIT = "\x1f"


class Raw(NamedTuple):
    """What a format makes of a file.

    Parameters
    ----------
    frame : polars.LazyFrame
        Text as strings, so that a bad value can be shown as it stands in the file.
    names : tuple of str
        The names of the columns as they stand there, of which two can be the same.
    format : str
        For messages.
    notes : tuple of str
        What is worth knowing about how it was read.
    separator : str
        Of text, else empty.
    guessed : bool
        Whether the separator was told by the lines.
    headed : bool
        Whether the names stand in the file.
    """

    frame: pl.LazyFrame
    names: tuple[str, ...]
    format: str
    notes: tuple[str, ...] = ()
    separator: str = ""
    guessed: bool = False
    headed: bool = True


def read_file(path: Path, separator: str = "", namer: Namer = lambda cells: None) -> Raw:
    r"""Return the columns of a file, or of a folder of Parquet files.

    Parameters
    ----------
    path : Path
        Exists.
    separator : str
        Of text. Without it, the usual one of the suffix, unless another one alone splits the lines.
    namer : callable
        Tells whether text has a header.

    Raises
    ------
    DataError
        In one line, for a file that is empty, damaged, or of another format.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "log.csv"
    ...     _ = path.write_bytes("user;item\n7;Amélie\n".encode("utf-16"))
    ...     raw = read_file(path)
    ...     raw.frame.collect().rows(), raw.notes
    ([('7', 'Amélie')], ('read as UTF-16', "fields are separated by ';'"))
    """
    if path.is_dir():
        with readable(path, "Parquet"):
            return _read_parquet_folder(path)
    file = _open(path)
    for name, signs, mend in _FOREIGN:
        if signs.match(file.head):
            raise DataError(f"{path} is {name}, which recmia does not read; {mend}")
    known = [form for form in _FORMATS if file.suffix in form.suffixes or form.signs.match(file.head)]
    form = known[0] if known else _TEXT
    with readable(path, form.name):
        return form.read(file, separator, namer)._replace(format=form.name)


@contextmanager
def readable(path: Path, form: str) -> Iterator[None]:
    """Tell an error of a reader in one line."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        words = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: cannot be read as {form}, so that it may be cut short: {words}") from None


def usual_separator(suffix: str) -> str:
    """Return the separator of text under a name that ends like this; RecBole's atomic files have tabs."""
    return "\t" if suffix in (".tsv", ".inter", ".user", ".item") else ","


def shown_separator(separator: str) -> str:
    """Return a separator as it is named in an option."""
    return "tab" if separator == "\t" else separator


@dataclass(frozen=True, eq=False)
class _File:
    """A file as it lies, or what it holds when it is unpacked and decoded."""

    path: Path
    suffix: str
    data: Path | bytes
    notes: tuple[str, ...] = ()

    @property
    def head(self) -> bytes:
        return next(self.blocks(_HEAD), b"")

    @property
    def whole(self) -> bytes:
        return self.data if isinstance(self.data, bytes) else self.data.read_bytes()

    @property
    def stream(self) -> io.BytesIO | io.BufferedReader:
        return io.BytesIO(self.data) if isinstance(self.data, bytes) else self.data.open("rb")

    def blocks(self, size: int = _BYTES_AT_ONCE) -> Iterator[bytes]:
        with self.stream as stream:
            while block := stream.read(size):
                yield block


_PACKED: tuple[tuple[re.Pattern[bytes], Callable[[bytes], bytes]], ...] = (
    (re.compile(rb"\x1f\x8b"), gzip.decompress),
    (re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), bz2.decompress),
    (re.compile(rb"\xfd7zXZ\x00"), lzma.decompress),
)
_PACKED_SUFFIXES = (".gz", ".gzip", ".bz2", ".xz")
# The longer mark goes first: that of UTF-32 begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def _open(path: Path) -> _File:
    """Return a file unpacked and, if it is UTF-16 or UTF-32, as UTF-8."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in _PACKED_SUFFIXES
    suffix = next(iter(suffixes[-2:-1] if packed else suffixes[-1:]), "")
    file = _File(path, suffix, path)
    head = file.head
    for sign, unpack in _PACKED:
        if sign.match(head):
            try:
                file = replace(file, data=unpack(file.whole))
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise DataError(f"{path}: cannot be unpacked, so that it may be cut short: {error}") from None
            head = file.head
    if not head:
        raise DataError(f"{path} is empty")
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "") or _encoding_without_mark(head)
    if not encoding:
        return file
    try:
        data = file.whole.decode(encoding).encode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read as {encoding}, so that it may be cut short: {error}") from None
    return replace(file, data=data, notes=(f"read as {encoding.upper().removesuffix('-LE').removesuffix('-BE')}",))


def _encoding_without_mark(head: bytes) -> str:
    """Return the kind of UTF-16 that a text without a mark is in: of Latin letters, every second byte is zero."""
    even, odd = head[::2], head[1::2]
    for letters, zeros, encoding in ((even, odd, "utf-16-le"), (odd, even, "utf-16-be")):
        if 0 not in letters and zeros.count(0) > len(zeros) / 2:
            return encoding
    return ""


# Text.


def _read_text(file: _File, separator: str, namer: Namer) -> Raw:
    file, has_quotes = _with_line_feeds(file)
    lines = _first_lines(file.head)
    usual = separator or usual_separator(file.suffix)
    found = usual if separator else _told_separator(lines, usual)
    notes = file.notes if found == usual else (*file.notes, f"fields are separated by {shown_separator(found)!r}")
    mark, quote = found, '"' if has_quotes else None
    if len(mark) > 1:
        # polars takes one character only.
        file, mark = replace(file, data=file.whole.replace(mark.encode(), _UNIT.encode())), _UNIT
    if has_quotes and not _quotes_are_regular(file.blocks(), mark):
        file, mark, quote = replace(file, data=_without_quotes(file.whole, mark)), _UNIT, None
        notes += ("quotes that do not enclose a field were taken as letters of it",)
    options: dict[str, Any] = {
        "separator": mark, "quote_char": quote, "infer_schema": False, "raise_if_empty": False, "glob": False,
    }  # fmt: skip
    columns = pl.read_csv(file.data, n_rows=0, **options).columns
    cells = _cells(_first_lines(file.head), mark, quote)
    names = cells if len(cells) == len(columns) else columns
    header = namer(names)
    if header is not None and columns and len(header) != len(columns):
        raise DataError(
            f"{file.path}: the first line has {len(columns)} fields, where {len(header)} are expected, "
            f"{', '.join(header)}; it is {', '.join(map(repr, names))[:_CELL_SHOWN]}"
        )
    if header is not None:
        # With a header, the reader skips blank lines before it by itself.
        options |= {
            "has_header": False,
            "new_columns": list(header),
            "skip_rows": _blank_lines(file.head) if cells else 0,
        }
        names = list(header)
    try:
        frame = pl.read_csv(file.data, **options)
    except pl.exceptions.PolarsError:
        _refuse_long_rows(file, mark, quote, len(columns), header is None)
        raise
    bare = [name.strip() for name in names]
    spaced = {old: new for old, new in zip(frame.columns, bare, strict=True) if old != new and bare.count(new) == 1}
    return _untyped(Raw(frame.rename(spaced).lazy(), tuple(bare), "", notes, found, found != usual, header is None))


def _with_line_feeds(file: _File) -> tuple[_File, bool]:
    """Return text as UTF-8 with line feeds, and whether there is a quote in it."""
    quotes, feeds, returns = False, False, False
    for block in file.blocks():
        if 0 in block:
            raise DataError(
                f"{file.path} is no text, since it holds zero bytes, and of no format that recmia knows: give CSV, "
                "JSON lines or Parquet"
            )
        quotes, feeds, returns = quotes or b'"' in block, feeds or b"\n" in block, returns or b"\r" in block
    if not _is_utf8(file):
        data = file.whole.decode("latin-1").encode()
        file = replace(file, data=data, notes=(*file.notes, "the file is not UTF-8 and was read as latin-1"))
    if returns and (not feeds or re.match(rb"[^\r\n]*\r(?!\n)", file.head)):
        # The first line ends so; what was added to such a file later may end otherwise.
        file = replace(file, data=file.whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
    return file, quotes


def _is_utf8(file: _File) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in file.blocks():
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _first_lines(head: bytes) -> list[str]:
    """Return the first lines, but for blank ones, and for one that is cut."""
    lines = head.decode("utf-8-sig", errors="replace").split("\n")
    whole = lines if len(head) < _HEAD or len(lines) == 1 else lines[:-1]
    return [line.removesuffix("\r") for line in whole if line.strip()][:_LINES_LOOKED_AT]


def _blank_lines(head: bytes) -> int:
    """Return how many blank lines come before the first other one."""
    lines = head.removeprefix(codecs.BOM_UTF8).split(b"\n")
    return len(list(itertools.takewhile(lambda line: not line.strip(b"\r"), lines[:-1])))


def _cells(lines: Sequence[str], mark: str, quote: str | None) -> list[str]:
    """Return the cells of the first of these lines."""
    try:
        return next(_parsed((f"{line}\n" for line in lines), mark, quote), [])
    except csv.Error:
        return []


def _parsed(lines: Iterable[str], mark: str, quote: str | None) -> Iterator[list[str]]:
    """Return the cells of each row, none of a blank line."""
    if quote is None:
        return csv.reader(lines, delimiter=mark, quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=mark, quotechar=quote)


def _told_separator(lines: Sequence[str], usual: str) -> str:
    """Return the one separator that splits all lines alike, where the usual one does not split the first at all."""
    if not lines or usual in lines[0]:
        return usual
    counts = {mark: {_count(line, mark) for line in lines} for mark in SEPARATORS if mark != usual}
    splitting = [mark for mark, found in counts.items() if len(found) == 1 and found != {0}]
    return splitting[0] if len(splitting) == 1 else usual


def _count(line: str, mark: str) -> int:
    return line.count(mark) if len(mark) > 1 else len(_cells([line], mark, '"')) - 1


def _quotes_are_regular(blocks: Iterable[bytes], mark: str) -> bool:
    """Tell whether each quote opens or closes a field, or is one of two within it."""
    beside = np.zeros(256, np.bool_)
    beside[list(b'\n\r"' + mark.encode())] = True
    inside, before = 0, b"\n"
    for block, after in itertools.pairwise(itertools.chain(blocks, [b"\n"])):
        letters = np.frombuffer(before + block.removeprefix(codecs.BOM_UTF8) + after[:1], np.uint8)
        at = np.flatnonzero(letters[1:-1] == ord('"')) + 1
        opens = (np.arange(len(at)) + inside) % 2 == 0
        if not beside[np.where(opens, letters[at - 1], letters[at + 1])].all():
            return False
        inside, before = (inside + len(at)) % 2, block[-1:]
    return inside == 0


def _without_quotes(data: bytes, mark: str) -> bytes:
    """Return the same fields with `_UNIT` between them; a quote encloses a field of one line, or is a letter of it."""
    unit = _UNIT.encode()
    enclosed = re.compile(rb'(?<![^\x1f\n])[ ]*"((?:[^"\n]|"")*)"[ ]*(?=[\x1f\r\n]|\Z)')

    def opened(field: re.Match[bytes]) -> bytes:
        return field[1].replace(b'""', b'"').replace(unit, mark.encode())

    return enclosed.sub(opened, data.removeprefix(codecs.BOM_UTF8).replace(mark.encode(), unit))


def _refuse_long_rows(file: _File, mark: str, quote: str | None, width: int, headed: bool) -> None:
    """Name the first row with more fields than there are columns."""
    with io.TextIOWrapper(file.stream, encoding="utf-8-sig", newline="\n") as text:
        rows = itertools.dropwhile(lambda row: not row, _parsed(text, mark, quote))
        long, number = [], 0
        try:
            for number, row in enumerate(rows, 0 if headed else 1):
                if len(row) > width:
                    long.append((number, row))
        except csv.Error as error:
            if "new-line character" in str(error):
                raise DataError(
                    f"{file.path}: data row {number + 1:,} holds a carriage return alone, where other lines end "
                    "otherwise; give all lines the same end"
                ) from None
            return
    if not long:
        return
    number, row = long[0]
    cells = ", ".join(repr(cell)[:_CELL_SHOWN] for cell in row[:_CELLS_SHOWN])
    than = f"the header has {width}" if headed else f"the first row has {width}"
    raise DataError(
        f"{file.path}: data row {number:,} has {len(row)} fields, where {than}: {cells} ({len(long):,} such rows)"
    )


_TYPED = re.compile(r"(.+):(token|float|token_seq|float_seq)")


def _untyped(raw: Raw) -> Raw:
    """Take the types off the names of RecBole's atomic files; a sequence becomes a list."""
    typed = [_TYPED.fullmatch(name) for name in raw.names]
    if not typed or None in typed:
        return raw
    plain = [(kind[1], kind[2]) for kind in typed if kind]
    columns = [
        pl.col(name).str.split(" ").alias(new) if kind.endswith("_seq") else pl.col(name).alias(new)
        for name, (new, kind) in zip(raw.names, plain, strict=True)
    ]
    return raw._replace(frame=raw.frame.select(columns), names=tuple(name for name, _ in plain))


# Other formats.


def _read_parquet(file: _File, separator: str, namer: Namer) -> Raw:
    return _scanned(pl.scan_parquet(file.data if isinstance(file.data, Path) else io.BytesIO(file.data), glob=False))


def _read_parquet_folder(path: Path) -> Raw:
    """Read what Spark and others write: parts in a folder, beside marks and checksums."""
    parts = sorted(part for part in path.rglob("*.parquet") if not part.name.startswith((".", "_")))
    if not parts:
        raise DataError(f"{path} is a folder without .parquet files; name one file")
    return _scanned(pl.scan_parquet(parts, glob=False))._replace(format="Parquet")


def _read_json(file: _File, separator: str, namer: Namer) -> Raw:
    """Read objects, one a line, or a list of them."""
    listed = re.match(rb"(\xef\xbb\xbf)?\s*\[\s*[{\]]", file.head)
    source = io.BytesIO(file.whole.removeprefix(codecs.BOM_UTF8))
    try:
        read = pl.read_json if listed else pl.read_ndjson
        return _scanned(read(source, infer_schema_length=None).lazy())._replace(notes=file.notes)
    except pl.exceptions.PolarsError:
        if not listed:
            _refuse_bad_objects(file)
        raise


def _refuse_bad_objects(file: _File) -> None:
    lines = file.whole.removeprefix(codecs.BOM_UTF8).splitlines()
    bad = [number for number, line in enumerate(lines) if line.strip() and not _is_object(line)]
    if bad:
        shown = repr(lines[bad[0]].decode(errors="replace")[:80])
        raise DataError(
            f"{file.path}: data row {bad[0] + 1:,} is no JSON object on a line of its own: {shown} "
            f"({len(bad):,} such rows)"
        )


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _scanned(frame: pl.LazyFrame) -> Raw:
    return Raw(frame, tuple(frame.collect_schema().names()), "")


class _Format(NamedTuple):
    """A file format: its name in messages, what its files begin with and are called, and how it is read."""

    name: str
    signs: re.Pattern[bytes]
    suffixes: tuple[str, ...]
    read: Callable[[_File, str, Namer], Raw]


_FORMATS = (
    _Format("Parquet", re.compile(rb"PAR1"), (".parquet",), _read_parquet),
    _Format(
        "JSON lines",
        re.compile(rb'(\xef\xbb\xbf)?\s*(\{\s*"|\[\s*\{\s*")'),
        (".jsonl", ".ndjson", ".json"),
        _read_json,
    ),
)
# What is none of them is text.
_TEXT = _Format("separated text", re.compile(rb""), (), _read_text)
_UNPACK, _AS_PARQUET = "unpack it, and name the file in it", "write the table as Parquet or CSV where it was made"
# Formats of others: what they are, what they begin with, and what helps.
_FOREIGN = tuple(
    (name, re.compile(signs, re.DOTALL), mend)
    for name, signs, mend in (
        ("an Excel workbook", rb"PK\x03\x04.{26}(\[Content_Types\]|_rels|docProps|xl/)", "save the sheet as CSV"),
        ("an OpenDocument sheet", rb"PK\x03\x04.{26}mimetype", "save the sheet as CSV"),
        ("an old Excel workbook", rb"\xd0\xcf\x11\xe0", "save the sheet as CSV"),
        ("a ZIP archive", rb"PK\x03\x04", _UNPACK),
        ("a 7z archive", rb"7z\xbc\xaf", _UNPACK),
        ("a TAR archive", rb".{257}ustar", _UNPACK),
        ("packed with zstd", rb"\x28\xb5\x2f\xfd", "unpack it with zstd -d, or pack it with gzip"),
        ("a SQLite database", rb"SQLite format 3", "write the table with sqlite3 -header -csv FILE 'SELECT ...'"),
        ("a pickle", rb"\x80[\x02-\x05]", f"a pickle can run any code: {_AS_PARQUET} (DataFrame.to_parquet)"),
        ("an HDF5 file", rb"\x89HDF", f"{_AS_PARQUET} (pandas.read_hdf, DataFrame.to_parquet)"),
        ("an array of NumPy", rb"\x93NUMPY", _AS_PARQUET),
        ("an Arrow file", rb"ARROW1\x00|FEA1[\x00-\x1f]", f"{_AS_PARQUET} (polars.read_ipc, DataFrame.write_parquet)"),
        ("an ORC file", rb"ORC[\x00-\x1f\x80-\xff]", _AS_PARQUET),
        ("an Avro file", rb"Obj\x01", _AS_PARQUET),
        ("a web page", rb"\s*<(!DOCTYPE|!doctype|html|HTML|\?xml)", "download the file itself"),
        ("a pointer of Git LFS", rb"version https://git-lfs", "fetch the file with git lfs pull"),
    )
)
