"""A trained model in a folder: read, checked and tried out before anything runs."""

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from platform import python_version
from typing import cast

import msgspec
import numpy as np

from headrace.models.features import Floats
from headrace.models.matrix import ALL_ROWS
from headrace.models.reasons import why_none
from headrace.models.static import Explained, Model, ModelFailed, told
from headrace.schemas.errors import BadModel
from headrace.schemas.manifest import FORMAT, NAME, Kind, Manifest
from headrace.stream import formats
from headrace.stream.isolated import Isolated

BYTES_MAX = 2 << 30  # of a model's file: what is larger is some other file, or would fill the memory


class Static:
    """A trained model from a folder that ``save_static`` wrote.

    A relative path is relative to the file that says it, and in a notebook to the working directory. Whatever is
    wrong with the folder ends the start, with the reason. ``trusted`` names types that a scikit-learn model may hold
    beside those that skops trusts.

    With ``deadline_ms`` the model lives in a process of its own, which is ended when it does not answer in that time,
    or dies by itself. The batch is tried once more, and then its events have no score: they get the fallback, or
    become dead letters.

    >>> Static("no/such/model")
    Traceback (most recent call last):
    headrace.schemas.errors.BadModel: model cannot be used (1 problem):
      .../no/such/model: there is no manifest.json
    """

    def __init__(self, path: str | Path, *, trusted: Sequence[str] = (), deadline_ms: int | None = None) -> None:
        self.path = beside(path, sys._getframe(1).f_globals.get("__file__"))  # noqa: SLF001 - who says the path
        self.manifest, content = read(self.path)
        self._model: Model
        if deadline_ms is None:
            self._model = tried(self.path, self.manifest, content, trusted)
        else:
            self._model = Isolated(self.path, self.manifest, content, trusted=trusted, deadline_ms=deadline_ms)
        self.features, self.version = self._model.features, self._model.version
        self.rows: int = getattr(self._model, "rows", ALL_ROWS)  # in a call, whatever comes

    def __repr__(self) -> str:
        return f"<Static {self.manifest.kind} {self.version} from {self.path}>"

    def score(self, features: Mapping[str, Floats]) -> Floats:
        """Return one score per event."""
        return self._model.score(features)

    def why_no_reasons(self) -> str:
        """Say why it cannot tell what features contribute, or nothing if it can."""
        return why_none(self._model)

    def contributions(self, features: Mapping[str, Floats]) -> Floats:
        """Return what each feature contributed, a row per event, and in the last column what there is without them."""
        return cast("Explained", self._model).contributions(features)


def beside(path: str | Path, file: str | None) -> Path:
    """Return a path as it is meant in a file."""
    folder = Path(file).resolve().parent if file else Path()
    return folder / path


def read(folder: Path) -> tuple[Manifest, bytes]:
    """Return what a folder says of its model, and the model's file, which is what the manifest says it is."""
    try:
        manifest = read_manifest(folder)
        try:
            return manifest, _content(folder, manifest)
        except FileNotFoundError:
            manifest = read_manifest(folder)  # it may have been replaced in this moment
            return manifest, _content(folder, manifest)
    except OSError as error:
        raise BadModel([f"{error.filename}: {error.strerror}, and the manifest names it"]) from error


def tried(folder: Path, manifest: Manifest, content: bytes, trusted: Sequence[str]) -> Model:
    """Load the model, and check what it scores."""
    try:
        model = formats.load(content, manifest, trusted=trusted)
        problems = [*_another_version(manifest), *_wrong_scores(model, manifest)]
    except BadModel as error:
        raise BadModel([f"{folder / manifest.file}: {one}" for one in error.problems]) from error
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise BadModel([f"{folder / manifest.file}: cannot be read as {manifest.kind}: {cause}"]) from error
    if problems:
        raise BadModel([f"{folder}: {one}" for one in problems])
    return model


def read_manifest(folder: Path) -> Manifest:
    """Read what a folder says of its model, as far as it makes sense by itself."""
    path = folder / NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise BadModel([f"{folder}: there is no {NAME}"]) from error
    except OSError as error:
        raise BadModel([f"{path}: {error.strerror}"]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadModel([f"{path}: {error}"]) from error
    problems = []
    if manifest.format != FORMAT:
        problems.append(f"format = {manifest.format}: this version reads {FORMAT}")
    names = [one.name for one in manifest.features]
    problems += [
        f"features: {name!r} is there twice" for name in sorted({one for one in names if names.count(one) > 1})
    ]
    if not names:
        problems.append("features: there are none")
    if manifest.file not in manifest.sha256:
        problems.append(f"sha256: has nothing for {manifest.file!r}")
    problems += [
        f"sha256: {name!r} is no name in this folder"
        for name in [*manifest.sha256, manifest.file]
        if Path(name).name != name or name in ("", "..")
    ]
    if (golden := manifest.golden) is not None:
        if not golden.rows:
            problems.append("golden: has no rows; leave it out, or give it some")
        if len(golden.rows) != len(golden.scores):
            problems.append(f"golden: {len(golden.rows)} rows and {len(golden.scores)} scores")
        if {len(row) for row in golden.rows} - {len(names)}:
            problems.append(f"golden: every row needs {len(names)} numbers, one for each feature")
    if problems:
        raise BadModel([f"{path}: {one}" for one in problems])
    return manifest


def _content(folder: Path, manifest: Manifest) -> bytes:
    """Return the model's file, after each file was compared with its hash: what is checked is what is used."""
    contents = {}
    for name, want in manifest.sha256.items():
        path = folder / name
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > BYTES_MAX:
                raise BadModel([f"{path}: has {size:,} bytes; allowed are {BYTES_MAX:,}"])
            contents[name] = file.read()
        got = hashlib.sha256(contents[name]).hexdigest()
        if got != want.lower():
            raise BadModel(
                [f"{path}: its SHA-256 is {got}, and the manifest says {want}: it was changed, or is a part"]
            )
    return contents[manifest.file]


def _another_version(manifest: Manifest) -> list[str]:
    """Say what is wrong with a scikit-learn model that another version made, and that nothing shows to be right."""
    if manifest.kind != "sklearn" or manifest.golden is not None:
        return []
    made, here = manifest.libraries.get("scikit-learn", ""), libraries("sklearn")["scikit-learn"]
    if made.split(".")[:2] == here.split(".")[:2]:
        return []
    return [
        f"was made with scikit-learn {made or 'of unknown version'}, and here is {here}: without golden rows nothing "
        "shows that it still scores the same. Save it again with golden=..., or install that version"
    ]


def _wrong_scores(model: Model, manifest: Manifest) -> list[str]:
    """Say what is wrong with the scores of the golden rows, or where there are none, with the form of any."""
    golden = manifest.golden
    rows = np.array(golden.rows, np.float64) if golden else np.zeros((2, len(manifest.features)))
    try:
        with np.errstate(all="ignore"):
            got = np.asarray(model.score({one.name: rows[:, at].copy() for at, one in enumerate(manifest.features)}))
    except ModelFailed as error:
        return [f"the model {error}"]
    except Exception as error:  # noqa: BLE001 - whatever the library raises; zeros may mean nothing to it
        return [f"golden: the model {told(error)}"] if golden else []
    if got.shape != (len(rows),):
        return [
            f"the model returned shape {got.shape} for {len(rows)} rows, expected ({len(rows)},): one number per row"
        ]
    if golden is None:
        return []
    want = np.array(golden.scores)
    off = np.flatnonzero(~(np.abs(got - want) <= golden.tolerance * np.maximum(1.0, np.abs(want)))).tolist()
    problems = [
        f"golden: row {at} scores {got[at]}, and scored {want[at]} when it was saved (tolerance {golden.tolerance})"
        for at in off[:3]
    ]
    return problems + ([f"golden: so do {len(off) - 3} rows more"] if len(off) > 3 else [])


def libraries(kind: Kind, made_from: str = "") -> dict[str, str]:
    """Return the versions that decide what a model does."""
    from headrace import __version__  # noqa: PLC0415 - the package imports this module

    found = {"python": python_version(), "headrace": __version__, "numpy": np.__version__}
    names = {"sklearn": ["sklearn", "skops"], "onnx": ["onnxruntime"]}.get(kind, [kind])
    if made_from.startswith("sklearn"):  # it was fitted with that, although it may be weights by now
        names = list(dict.fromkeys(["sklearn", *names]))
    for name in names:
        if name in sys.modules:
            found["scikit-learn" if name == "sklearn" else name] = sys.modules[name].__version__
    return found
