"""Pipelines: loaded models that make clips."""

from __future__ import annotations

import inspect
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

import numpy as np

from . import _kinora
from ._clip import Clip
from ._inputs import Picture, with_sources
from ._progress import Progress, listener

if TYPE_CHECKING:
    from typing import Unpack

PathLike = str | os.PathLike[str]


class DenoisingOptions(TypedDict, total=False):
    """How noise becomes a clip. What is left out is as in the preset or the mode, else the model's own."""

    preset: str | None
    """Settings of a distilled model or LoRA by name, such as ``lightning-4``."""
    mode: Literal["fast", "quality"] | None
    """The model's settings for speed or for quality."""
    steps: int | None
    """Number of denoising steps."""
    sampler: str | None
    """``euler``, ``heun``, ``dpm++2m``, ``unipc``, ``unipc-bh1`` or ``lcm``."""
    shift: float | None
    """Shift of the noise schedule."""
    sigmas: Sequence[float] | None
    """Explicit noise levels, falling from at most 1."""
    timesteps: Sequence[float] | None
    """Explicit timesteps, falling from at most 1000."""
    guidance_scale: float | None
    """How strongly the clip follows the prompt; 1 turns guidance off."""
    guidance_scale_2: float | None
    """The same of the low-noise expert, for models with two."""
    stg_scale: float | None
    """Guidance away from a network with self-attention left out in a block, for models that have it; 0 turns it off."""
    modality_scale: float | None
    """Guidance of picture and sound away from what each would be without the other; 1 turns it off."""
    guidance_rescale: float | None
    """Share, from 0 to 1, in which a guided estimate gets the contrast of the unguided one."""
    audio_guidance_scale: float | None
    """``guidance_scale`` of the sound, for models that make sound."""
    audio_stg_scale: float | None
    """``stg_scale`` of the sound."""
    audio_modality_scale: float | None
    """``modality_scale`` of the sound."""
    audio_guidance_rescale: float | None
    """``guidance_rescale`` of the sound."""
    cfg_zero_star: bool | None
    """CFG-Zero*: scale the unconditional prediction optimally, and zero the velocity of the first step."""
    zero_init: int | None
    """Number of first steps whose velocity is zero."""
    guidance_interval: tuple[float, float] | None
    """Guide only at noise levels above the first and up to the second, between 0 (clip) and 1 (noise)."""
    cache: str | None
    """Step cache: ``first-block``, ``easycache``, ``teacache`` or ``magcache``, with a threshold such as ``first-block:0.05``; or
    ``none``."""
    attention: str | None
    """``dense``, or ``sparse[:KEEP]``: faster in long clips, a different clip."""
    seed: int | Literal["random"] | None
    """Seed of the noise, from 0 to 2**64 - 1; random if it is left out. The recipe has it."""
    negative_prompt: str | None
    """Things that the clip should not show; may be empty."""
    tile: int | None
    """Decode in tiles of so many latent pixels per side; only where whole frames do not fit in memory, if it is left out."""
    upscale: str | None
    """Enlarge the frames after decoding: ``2x``, ``4x``, or to a height such as ``1080p``."""
    upscaler: Literal["lanczos", "span"] | None
    """What enlarges them: the Lanczos kernel, which is quick, or SPAN, a small network, which is sharper."""


class ClipOptions(DenoisingOptions, total=False):
    """Everything about a clip but its prompt. The names are those of the options of ``kinora generate``."""

    aspect: str | float | None
    """Width to height, such as ``16:9``; the area stays the model's own, or that of ``resolution``."""
    resolution: Literal["480p", "720p", "1080p"] | None
    """832×480, 1280×720 or 1920×1080; with ``aspect`` or a picture, only the area counts."""
    width: int | None
    """Width in pixels."""
    height: int | None
    """Height in pixels."""
    frames: int | None
    """Number of frames, rounded to one that the model can make (usually 4k + 1)."""
    duration: float | None
    """Length in seconds, instead of ``frames``."""
    fps: float | None
    """Frames per second."""
    image: Picture | None
    """The picture that the clip begins with."""
    last_image: Picture | None
    """The picture that the clip ends with."""
    fit: Literal["crop", "pad", "stretch"] | None
    """How pictures and clips of another shape get the clip's."""
    video: PathLike | Clip | None
    """A clip to change."""
    strength: float | None
    """How much of ``video`` is replaced, above 0 and up to 1."""
    control: PathLike | Clip | None
    """A clip that controls the new one, for models that take ``control``."""
    mask: PathLike | Clip | Picture | None
    """White areas are generated, black ones are kept from ``control``."""
    references: Sequence[Picture] | None
    """Pictures of what the clip should show, for models that take ``control``."""
    expand: str | float | None
    """Enlarge the frames of ``control`` at their sides: ``left=0.25,right=0.25``, or one number for all."""
    control_scale: float | None
    """How strongly the clip follows ``control``; 1 is usual."""
    camera: str | None
    """How the camera moves: horizontal, vertical, pan, tilt, roll, zoom, from -10 to 10, such as ``pan=5,zoom=-3``."""
    camera_preset: Literal["down-back", "forward-up", "left-turn-forward", "right-turn-forward"] | None
    """A camera move by name."""
    camera_path: PathLike | None
    """A file of camera poses."""
    camera_in_prompt: bool | None
    """Say the camera's move in the prompt; so it is for models without camera control, if this is left out."""
    init_latents: PathLike | None
    """A safetensors file whose tensor ``noise`` ``[1, C, F, H, W]`` is taken for the seeded noise."""
    save_latents: PathLike | None
    """The file that the denoised latents are saved in, for ``kinora decode``."""
    resume: PathLike | None
    """The directory in which the state of the run is saved every few steps, and from which the same call goes on."""


class ExtendOptions(DenoisingOptions, total=False):
    """Everything about a continuation but what happens in it. What is left out is as in the clip, if this model made it."""

    seconds: float | None
    """Seconds to add each time; 5 if it is left out."""
    times: int | None
    """How many times to add them; 1 if it is left out."""
    camera: str | None
    """How the camera moves: axes such as ``pan=5,zoom=-3``, or the name of a preset."""
    project: PathLike | None
    """The directory that keeps intermediate results, and from which the same call goes on."""


@dataclass(frozen=True)
class Plan:
    """What a clip will be, before it is made."""

    width: int
    """Width in pixels."""
    height: int
    """Height in pixels."""
    frames: int
    """Number of frames."""
    fps: float
    """Frames per second."""
    steps: int
    """Number of denoising steps."""
    sampler: str
    """The sampler."""
    guided: bool
    """Whether some step makes a second prediction, for the negative prompt."""
    seed: int
    """The seed; another one each time, if none is given."""
    latents: tuple[int, int, int, int]
    """Shape of the latents, ``[C, F, H, W]``."""
    memory: dict[str, Any]
    """Bytes: ``peak``, the most that the process will hold; ``available``, what is free, if that is known; ``weights`` and ``working``
    memory of each stage, ``text``, ``denoise`` and ``decode``."""
    time: dict[str, Any] | None
    """``seconds``, those of them that ``decode`` takes, if known, and the ``basis`` that they are known from: ``same_size``, ``other_size`` or ``rate``."""
    notices: list[str]
    """Sentences about changed values and other facts worth knowing."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.fps


_Function = TypeVar("_Function", bound=Callable[..., Any])


def _spelled_out(options: type) -> Callable[[_Function], _Function]:
    """Shows the keys of ``options`` as arguments to ``help`` and notebooks."""

    def spell(function: _Function) -> _Function:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        more = [
            # As the source has it.
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=getattr(annotation, "__forward_arg__", annotation)
            )
            for name, annotation in options.__annotations__.items()
        ]
        setattr(function, "__signature__", signature.replace(parameters=own + more))
        return function

    return spell


class Pipeline:
    """A model that is ready to make clips. Its parts are read when their stage comes.

    :param model: a known name (``kinora.models()``), a model directory, or single files; files after a name replace its parts.
    :param loras: LoRAs that change the model, ``FILE`` or ``FILE:STRENGTH``, with ``high=`` or ``low=`` in front for one of two experts.
    :param lora_folder: a folder of LoRAs, which ``loras`` may name without a path.
    :param few_steps: without ``loras``, take one for few steps from ``lora_folder``, where one fits the model.
    :param dtype: ``f32``, ``bf16``, ``f16``, or ``auto``, the faster of the first two on this machine. Usual is f32 on the CPU.
    :param quant: ``int8``, ``fp8``, or ``auto``, the one that makes this machine faster, if one does.
    :param exact: do not round inputs to 8 bits where the file's weights are quantised.
    :param device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``metal``.
    :param threads: CPU threads. The result does not depend on their number.
    :param gpu_memory: gigabytes of GPU memory to plan with; all that is free, if it is left out.
    :param keep_warm: keep the parts in memory after a clip, as far as there is room: the next one starts without reading them.
    :param ffmpeg: whether the programs ``ffmpeg`` and ``ffprobe`` on ``PATH`` read clips that Kinora does not read itself.
    :param pace: the file that keeps how long clips took on this machine, for ``Plan.time``; that of the command if it is left out, and
        False for none.
    :param contexts: the folder of what the text encoder made of earlier prompts, so that a known one does not load it; that of the
        command if it is left out, and False for none.
    :raises KinoraError: there is no such model, its files do not make one, or there is no such device.

    Clips may be made from several threads at once. Other Python threads run meanwhile.
    """

    def __init__(
        self,
        model: PathLike | Sequence[PathLike] = "embedded",
        *,
        loras: PathLike | Sequence[PathLike] = (),
        lora_folder: PathLike | None = None,
        few_steps: bool = False,
        dtype: Literal["auto", "f32", "bf16", "f16"] | None = None,
        quant: Literal["auto", "int8", "fp8"] | None = None,
        exact: bool = False,
        device: str = "auto",
        threads: int | None = None,
        gpu_memory: float | None = None,
        keep_warm: bool = False,
        ffmpeg: bool = True,
        pace: PathLike | Literal[False] | None = None,
        contexts: PathLike | Literal[False] | None = None,
    ) -> None:
        options: dict[str, Any] = {
            "model": model,
            "loras": loras,
            "lora_folder": lora_folder,
            "few_steps": few_steps,
            "dtype": dtype,
            "quant": quant,
            "exact": exact,
            "device": device,
            "threads": threads,
            "gpu_memory": gpu_memory,
            "keep_warm": keep_warm,
            "ffmpeg": _ffmpeg() if ffmpeg else None,
            "pace": _cache("pace.json") if pace is None else pace or None,
            "contexts": _cache("contexts") if contexts is None else contexts or None,
        }
        self._native = _kinora.Pipeline(options)

    @property
    def model(self) -> dict[str, Any]:
        """What is known about the model, as in ``kinora.models()``."""
        model: dict[str, Any] = json.loads(self._native.model())
        return model

    @_spelled_out(ClipOptions)
    def plan(self, prompt: str, **options: Unpack[ClipOptions]) -> Plan:
        """What ``generate`` would do with the same arguments, without doing it.

        Raises TypeError and ValueError for arguments that are none, KinoraError for a clip that the model cannot make.
        """
        _check_prompt(prompt)
        plan = json.loads(self._native.plan(prompt, with_sources(options)))
        plan["latents"] = tuple(plan["latents"])
        return Plan(**plan)

    @_spelled_out(ClipOptions)
    def generate(
        self,
        prompt: str,
        *,
        progress: Callable[[Progress], object] | None = None,
        **options: Unpack[ClipOptions],
    ) -> Clip:
        """Makes a clip. ``kinora.ClipOptions`` says what the arguments mean.

        ``progress`` is called on this thread at the start of each stage, after each prediction of the network, each step and each few
        frames. The run stops after the prediction under way where it returns False (``kinora.Stopped``) or raises, and on Ctrl-C.

        Raises TypeError and ValueError for arguments that are none, KinoraError for everything else that goes wrong.
        """
        _check_prompt(prompt)
        return _clip(*self._native.generate(prompt, with_sources(options), listener(progress)))

    @_spelled_out(ExtendOptions)
    def extend(
        self,
        clip: Clip | PathLike,
        prompt: str | None = None,
        *,
        progress: Callable[[Progress], object] | None = None,
        **options: Unpack[ExtendOptions],
    ) -> Clip:
        """Continues a clip from its end: the whole clip, old and new. ``kinora.ExtendOptions`` says what the arguments mean.

        :param clip: a clip, or the file of one, from Kinora or anything else.
        :param prompt: what happens next; as in the clip if it is left out.

        A clip in a file goes on from the latents beside it, if they are there. ``progress`` and errors are as in ``generate``.
        """
        if prompt is not None:
            _check_prompt(prompt)
        given = with_sources({**options, "clip": clip, "prompt": prompt})
        return _clip(*self._native.extend(given, listener(progress)))

    def __repr__(self) -> str:
        return f"<kinora.Pipeline {self.model['name']}>"


def _check_prompt(prompt: object) -> None:
    if not isinstance(prompt, str):
        raise TypeError(f"prompt takes text, not {type(prompt).__name__}")


def _clip(parts: list[bytes], text: str) -> Clip:
    """The clip of frames, which are let go one by one, so that they are never in memory twice."""
    about = json.loads(text)
    frames = np.empty((len(parts), about["height"], about["width"], 3), np.uint8)
    for index in reversed(range(len(parts))):
        frames[index] = np.frombuffer(parts.pop(), np.uint8).reshape(frames.shape[1:])
    report = about["report"]
    return Clip(
        frames,
        about["fps"],
        recipe=json.loads(about["recipe"]),
        seconds=report["seconds"],
        predictions=report["predictions"],
        notices=report["notices"],
    )


def _ffmpeg() -> str | None:
    """The first ``ffmpeg`` on PATH beside which ``ffprobe`` lies. Folders relative to the current one are passed over."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if os.path.isabs(folder):
            both = [shutil.which(name, path=folder) for name in ("ffmpeg", "ffprobe")]
            if all(both):
                return both[0]
    return None


def _cache(name: str) -> str | None:
    """The path of ``name`` in the folder in which the command, too, keeps what it may need again."""
    folder = os.environ.get("KINORA_CACHE")
    if folder is not None:
        return os.path.join(folder, name) if os.path.isabs(folder) else None
    home = os.environ.get("HOME")
    caches = [os.environ.get("XDG_CACHE_HOME"), home and os.path.join(home, ".cache"), os.environ.get("LOCALAPPDATA")]
    found = next((cache for cache in caches if cache and os.path.isabs(cache)), None)
    return found and os.path.join(found, "kinora", name)
