from collections.abc import Callable, Iterator
from os import PathLike
from typing import Any, TypeAlias, final

__all__ = ["Pipeline", "__version__", "models", "pull", "read_recipe", "write_clip", "write_png"]
__version__: str

_Path: TypeAlias = str | PathLike[str]
_Progress: TypeAlias = Callable[[str, int, int, float], object]

@final
class Pipeline:
    def __new__(cls, options: dict[str, Any]) -> Pipeline: ...
    def model(self) -> str: ...
    def plan(self, prompt: str, options: dict[str, Any], names: list[tuple[str, str]]) -> str: ...
    def generate(
        self,
        prompt: str,
        options: dict[str, Any],
        names: list[tuple[str, str]],
        progress: _Progress | None,
    ) -> tuple[list[bytes], str]: ...
    def extend(
        self,
        options: dict[str, Any],
        names: list[tuple[str, str]],
        progress: _Progress | None,
    ) -> tuple[list[bytes], str]: ...

def models() -> str: ...
def pull(name: str, progress: _Progress | None) -> str: ...
def read_recipe(path: _Path) -> str: ...
def write_png(path: _Path, rgb: bytes, width: int, height: int) -> None: ...
def write_clip(
    path: _Path,
    frames: Iterator[bytes],
    size: tuple[int, int],
    fps: float,
    recipe: str | None,
    quality: int | None,
    encoder: str | None,
) -> list[str]: ...
