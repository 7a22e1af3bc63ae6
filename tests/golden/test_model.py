"""A model's folder, pinned: what was saved is read today, and what is saved today has that form.

The folder was written by a release and is never changed. A new form is a new folder, and a new ``FORMAT``.
"""

import json
from pathlib import Path

import numpy as np

from headrace import Linear, Static, save_static
from headrace.schemas.manifest import FORMAT

MODEL = Path(__file__).with_name("model-1")


def test_a_model_that_was_saved_is_read() -> None:
    static = Static(MODEL)
    assert (static.features, static.version, static.manifest.metrics) == (
        ("amount", "night"),
        "2026-11",
        {"auc": 0.875},
    )
    score = static.score({"amount": np.array([2.0]), "night": np.array([1.0])})
    np.testing.assert_allclose(score, 1 / (1 + np.exp(0.25)), rtol=1e-12)


def test_a_model_that_is_saved_today_has_that_form(tmp_path: Path) -> None:
    golden = {"amount": [0.0, 2.0, 4.0], "night": [0.0, 1.0, 0.0]}
    model = Linear({"amount": 0.5, "night": -0.25}, bias=-1.0)
    save_static(model, tmp_path, features=["amount", "night"], version="2026-11", golden=golden, metrics={"auc": 0.875})
    pinned, made = (json.loads((folder / "manifest.json").read_text()) for folder in (MODEL, tmp_path))
    assert list(made) == list(pinned)
    own = {"created", "libraries", "golden"}  # the scores may differ in their last bit from one processor to the next
    assert {name: made[name] for name in made if name not in own} == {
        name: pinned[name] for name in pinned if name not in own
    }
    np.testing.assert_allclose(made["golden"]["scores"], pinned["golden"]["scores"], rtol=1e-12)
    assert made["golden"]["rows"] == pinned["golden"]["rows"]
    assert made["format"] == FORMAT == 1
    assert (tmp_path / made["file"]).read_bytes() == (MODEL / pinned["file"]).read_bytes()
