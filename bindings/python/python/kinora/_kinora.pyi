from collections.abc import Callable, Iterator
from os import PathLike
from typing import Any, TypeAlias, final

__all__ = ["Pipeline", "Source", "__version__", "models", "pull", "read_recipe", "write_clip"]
__version__: str

_Path: TypeAlias = str | PathLike[str]
_Progress: TypeAlias = Callable[[str, int, int, float], object]

@final
class Pipeline:
    def __new__(cls, options: dict[str, Any]) -> Pipeline: ...
    def model(self) -> str: ...
    def plan(self, prompt: str, options: dict[str, Any]) -> str: ...
    def generate(
        self,
        prompt: str,
        options: dict[str, Any],
        progress: _Progress | None,
    ) -> tuple[list[bytes], str]: ...
    def extend(
        self,
        options: dict[str, Any],
        progress: _Progress | None,
    ) -> tuple[list[bytes], str]: ...

@final
class Source:
    @staticmethod
    def file(name: str, bytes: bytes) -> Source: ...
    @staticmethod
    def picture(name: str, rgb: bytes, width: int, height: int) -> Source: ...
    @staticmethod
    def clip(
        name: str, frames: Iterator[bytes], size: tuple[int, int], fps: float, recipe: str | None
    ) -> Source: ...

def models() -> str: ...
def pull(name: str, progress: _Progress | None, accept_licence: bool) -> str: ...
def read_recipe(path: _Path) -> str: ...
def write_clip(
    path: _Path,
    frames: Iterator[bytes],
    size: tuple[int, int],
    fps: float,
    recipe: str | None,
    quality: int | None,
    encoder: str | None,
) -> list[str]: ...
