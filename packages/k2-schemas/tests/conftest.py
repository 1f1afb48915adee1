"""Both engines: what a test says of one holds of the other."""

import pytest

import k2_schemas
from k2_schemas import _backend


@pytest.fixture(params=["cython", "python"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Compile with one engine, then with the other."""
    if request.param == "python":
        monkeypatch.setattr(_backend, "native", None)
    elif k2_schemas.backend != "cython":
        pytest.skip("k2-schemas was built without a compiler here")
    return str(request.param)
