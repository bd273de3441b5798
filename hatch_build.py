"""Compiles the modules of the hot paths with mypyc, where a wheel is asked for with them: `make compiled`, and the image.

They stay what they are, Python with types; a wheel has both, and Python takes the compiled one. Off by default, since
it takes a C compiler and minutes: HATCH_BUILD_HOOK_ENABLE_CUSTOM=true. Which modules: pyproject.toml.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileHook(BuildHookInterface[Any]):
    """https://hatch.pypa.io/latest/plugins/build-hook/reference/; `modules` of its table are paths in the project."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # For who builds without it, none of these need be there.
        from mypyc.build import mypycify
        from setuptools import Distribution  # type: ignore[import-untyped]
        from setuptools.command.build_ext import build_ext  # type: ignore[import-untyped]

        self._folder = TemporaryDirectory()
        made = Path(self._folder.name)
        modules = self.config["modules"]
        extensions = mypycify(
            ["--follow-imports=silent", *modules],
            opt_level="2",
            debug_level="0",
            target_dir=str(made / "c"),
            group_name="gateway",
        )
        # What a compiler warns of in generated code helps nobody, and looking for it takes longer than all else.
        for extension in extensions:
            extension.extra_compile_args = [*extension.extra_compile_args, "-Wno-all"]
        build = build_ext(Distribution({"name": self.metadata.name, "ext_modules": extensions}))
        build.build_lib, build.build_temp = str(made / "lib"), str(made / "objects")
        build.ensure_finalized()
        build.run()
        for library in Path(build.build_lib).rglob("*.so"):
            build_data["force_include"][str(library)] = str(library.relative_to(build.build_lib))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self._folder.cleanup()
