"""The one part that is compiled; everything else about the package is in pyproject.toml.

It is optional. Without a C compiler or Python's headers the package installs without it; River itself learns, and
numpy adds up windows: slower, with the same results. One compiled file fits every Python from 3.11 on.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "headrace.models._kernel",
            sources=["models/_kernel.c", "models/_windows.c"],
            depends=["models/_kernel.h"],
            libraries=["m"],
            # Without the second one, some processors would fuse a * b + c and round once, where River rounds twice.
            extra_compile_args=["-O3", "-ffp-contract=off"],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
