"""The compiled engine: built from the text beside it."""

from hashlib import sha256
from pathlib import Path

import pytest

import k2_schemas
from k2_schemas._backend import native

SOURCE = Path(k2_schemas.__file__).with_name("_native.pyx")


@pytest.mark.skipif(native is None or not SOURCE.exists(), reason="installed, or not compiled")
def test_the_engine_in_use_was_built_from_the_source_in_the_tree():
    """An old build would pass old tests: after a change run `hatch run build`."""
    assert native is not None

    assert sha256(SOURCE.read_bytes()).hexdigest() == native.SOURCE_DIGEST


def test_the_backend_says_which_engine_is_live():
    """Users ask it before they trust a benchmark."""
    assert k2_schemas.backend == ("python" if native is None else "cython")
    assert k2_schemas.compile(k2_schemas.FileRegistry.packaged().get(1).text).engine == (
        k2_schemas.backend
    )
