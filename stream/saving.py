"""Writes a fitted model into a folder: whole, or not at all."""

import hashlib
import math
import os
import secrets
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from headrace.models.features import Floats
from headrace.schemas.errors import BadModel
from headrace.schemas.manifest import FORMAT, NAME, Golden, Manifest
from headrace.stream import formats, packing
from headrace.stream.artifact import beside, libraries, read, read_manifest, tried

GOLDEN_MAX = 100  # rows
TOLERANCE = 1e-6  # a float32 has seven digits, and another processor or version may round otherwise


def save_static(
    model: Any,
    folder: str | Path,
    *,
    features: Sequence[str],
    version: str,
    golden: Mapping[str, Any] | None = None,
    tolerance: float = TOLERANCE,
    metrics: Mapping[str, float] | None = None,
    method: str = "",
    output: str = "",
    column: int | None = None,
    trusted: Sequence[str] = (),
) -> Manifest:
    """Write a fitted model into a folder, for ``Static`` to read.

    ``model`` is a fitted model of scikit-learn, LightGBM or XGBoost, an ONNX model or its file, or a ``Linear``.
    ``features`` are the pipeline's, in the order in which the model was trained. ``golden`` are columns of them, as
    ``Pipeline.transform`` returns them: of the first hundred rows the scores are kept, and compared wherever the
    model is loaded. A linear model of scikit-learn becomes weights, with its scaler, where these are exact.

    A score is one number. Of a classifier it is the last class's probability, which of two is the one that counts;
    of more, ``column`` says which. ``method`` is what is called in scikit-learn, ``output`` a name in ONNX.

    The folder is read back before it takes effect, which it does at once: its manifest is replaced last.

    >>> import tempfile
    >>> from headrace import Linear, Static
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = Linear({"amount": 0.5}, bias=-1.0)
    ...     _ = save_static(model, folder, features=["amount"], version="7", golden={"amount": [0.0, 2.0]})
    ...     Static(folder).manifest.golden.scores
    [0.2689414213699951, 0.5]
    """
    target, names = beside(folder, sys._getframe(1).f_globals.get("__file__")), list(features)  # noqa: SLF001
    rows = _golden_rows(golden, names)
    try:
        packed = packing.pack(model, packing.Wish(names, rows, method, output, column, trusted))
        scores = (
            np.asarray(packed.score(rows.astype(formats.number_of(packed.columns))), np.float64)
            if len(rows)
            else np.empty(0)
        )
    except BadModel:
        raise
    except Exception as error:
        raise BadModel([f"{packing.named(model)}: raised {type(error).__name__}: {error}"]) from error
    bad = np.flatnonzero(~np.isfinite(scores)).tolist()
    if bad:
        raise BadModel([f"golden: row {bad[0]} scores {scores[bad[0]]}, and a score is a finite number"])
    digest = hashlib.sha256(packed.content).hexdigest()
    file = f"model-{digest[:12]}{packed.suffix}"
    kept = [[None if math.isnan(one) else one for one in row] for row in rows.tolist()]
    manifest = Manifest(
        format=FORMAT,
        kind=packed.kind,
        version=version,
        file=file,
        sha256={file: digest},
        features=packed.columns,
        output=packed.output,
        made_from=packing.named(model),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        libraries=libraries(packed.kind, packing.named(model)),
        golden=Golden(kept, scores.tolist(), tolerance) if len(rows) else None,
        metrics=dict(metrics or {}),
    )
    _write(target, manifest, packed.content, trusted)
    return manifest


def _golden_rows(golden: Mapping[str, Any] | None, names: Sequence[str]) -> Floats:
    if golden is None:
        return np.empty((0, len(names)))
    if missing := [name for name in names if name not in golden]:
        raise BadModel([f"golden: has no column {', '.join(missing)}; it has {', '.join(golden)}"])
    rows = np.column_stack([np.asarray(golden[name], np.float64)[:GOLDEN_MAX] for name in names])
    if np.isinf(rows).any():
        at, place = np.argwhere(np.isinf(rows))[0]
        raise BadModel(
            [f"golden: {names[place]!r} is {rows[at, place]} in row {at}; allowed are finite numbers and NaN"]
        )
    if not len(rows):
        raise BadModel(["golden: has no rows; leave it out, or give it some"])
    return rows


def _write(folder: Path, manifest: Manifest, content: bytes, trusted: Sequence[str]) -> None:
    """Put the files beside their place, read them as ``Static`` will, and only then move them there."""
    part = folder / f".{secrets.token_hex(4)}.part"
    try:
        old = read_manifest(folder).sha256 if (folder / NAME).exists() else {}
    except BadModel:
        old = {}  # whatever that was, it is replaced
    try:
        part.mkdir(parents=True)
        _put(part / manifest.file, content)
        _put(part / NAME, _lines(manifest))
        try:
            tried(part, *read(part), trusted)
        except BadModel as error:
            raise BadModel([one.replace(str(part), str(folder)) for one in error.problems]) from error
        for name in (manifest.file, NAME):  # the manifest last: until then the old one counts, and its file is there
            (part / name).replace(folder / name)
            _sync(folder)
        for name in set(old) - set(manifest.sha256):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise BadModel([f"{error.filename or folder}: {error.strerror}"]) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _lines(manifest: Manifest) -> bytes:
    """Return a manifest with a line for each field, so that a person can read it and a hundred rows are one line."""
    fields = [
        f'  "{name}": '.encode() + msgspec.json.encode(value)
        for name, value in msgspec.structs.asdict(manifest).items()
    ]
    return b"{\n" + b",\n".join(fields) + b"\n}\n"


def _put(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
