"""Build the optional C engine; a machine without a compiler gets the package without it."""

import sys
from hashlib import sha256
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCE = Path("src/k2_schemas/_native.pyx")

extension = Extension(
    "k2_schemas._native",
    [str(SOURCE)],
    # So that a test can tell an engine that was built from another text.
    define_macros=[("K2_SOURCE_DIGEST", f'"{sha256(SOURCE.read_bytes()).hexdigest()}"')],
    extra_compile_args=[] if sys.platform == "win32" else ["-O3"],
)

# The engine copies doubles as the machine holds them; Avro wants them little-endian.
extensions = cythonize([extension], build_dir="build") if sys.byteorder == "little" else []
for built in extensions:
    # Said here, not above: cythonize makes new extensions and forgets it.
    built.optional = True

setup(
    ext_modules=extensions,
    # An sdist needs the engine's source, an installed package does not.
    exclude_package_data={"k2_schemas": ["*.pyx"]},
)
