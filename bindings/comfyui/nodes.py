"""The nodes. What they do is the package `kinora`'s; here are widgets, and the images, progress and interruptions of ComfyUI."""

from __future__ import annotations

import json
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import kinora
import numpy as np
import torch

CATEGORY = "kinora"

# The choice of widgets that leave a setting to the model.
USUAL = "default"
# The same of numbers.
UNSET = 0

PIPELINE = "KINORA_PIPELINE"
LORAS = "KINORA_LORAS"

PROMPT = ("STRING", {"multiline": True, "default": ""})
SEED = ("INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True})


def number(kind: str, most: float, tip: str, step: float = 1) -> tuple[str, dict[str, Any]]:
    """A widget of a number; 0 is the model's own."""
    return (kind, {"default": UNSET, "min": UNSET, "max": most, "step": step, "tooltip": f"{tip}; 0 is the model's own"})


def choice(*names: str) -> tuple[list[str], dict[str, Any]]:
    """A widget of names, or the model's own."""
    return ([USUAL, *names], {"default": USUAL})


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that do not leave it to the model."""
    left = (UNSET, USUAL, "")
    return {name: value for name, value in options.items() if value is not None and value not in left}


def told() -> Any:
    """Progress as ComfyUI shows it; its button to interrupt raises."""
    bar = comfy.utils.ProgressBar(1)

    def progress(now: kinora.Progress) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if now.total:
            bar.update_absolute(now.done, now.total)

    return progress


def frames_of(images: Any) -> np.ndarray:
    """Images [F, H, W, C] of floats in 0..1 as uint8 [F, H, W, 3]."""
    values = images.cpu().numpy()[..., :3]
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def first_of(images: Any) -> np.ndarray | None:
    """The first of images, as a picture."""
    return None if images is None else frames_of(images)[0]


def outputs(clip: kinora.Clip) -> tuple[Any, float, str]:
    """A clip as the outputs of a node."""
    images = torch.from_numpy(clip.frames.astype(np.float32) / np.float32(255))
    return images, clip.fps, json.dumps(clip.recipe)


class LoadModel:
    """A model that is ready to make clips."""

    RETURN_TYPES = (PIPELINE,)
    RETURN_NAMES = ("pipeline",)
    FUNCTION = "load"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = ", ".join(model["name"] for model in kinora.models())
        tip = f"a name ({names}), a directory, or files, one in a line; files after a name replace its parts"
        return {
            "required": {
                "model": ("STRING", {"default": "embedded", "multiline": True, "tooltip": tip}),
                "dtype": choice("auto", "f32", "bf16", "f16"),
                "quant": choice("auto", "int8", "fp8"),
                "device": ("STRING", {"default": "auto", "tooltip": "auto, cpu, cuda, cuda:N or metal"}),
                "threads": number("INT", 1024, "CPU threads"),
                "gpu_memory": number("FLOAT", 1024, "gigabytes of GPU memory to plan with", 0.5),
                "keep_warm": ("BOOLEAN", {"default": True, "tooltip": "keep the model in memory between clips"}),
            },
            "optional": {"loras": (LORAS,)},
        }

    def load(self, model: str, keep_warm: bool, loras: tuple[str, ...] = (), **options: Any) -> tuple[kinora.Pipeline]:
        words = [word.strip() for word in model.splitlines() if word.strip()]
        return (kinora.Pipeline(words, loras=loras, keep_warm=keep_warm, **given(options)),)


class Lora:
    """A LoRA for a model, after others."""

    RETURN_TYPES = (LORAS,)
    RETURN_NAMES = ("loras",)
    FUNCTION = "add"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "lora": (folder_paths.get_filename_list("loras"),),
                "strength": ("FLOAT", {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.05}),
                "expert": (["both", "high", "low"], {"default": "both", "tooltip": "of models with two"}),
            },
            "optional": {"loras": (LORAS,)},
        }

    def add(self, lora: str, strength: float, expert: str, loras: tuple[str, ...] = ()) -> tuple[tuple[str, ...]]:
        path = folder_paths.get_full_path_or_raise("loras", lora)
        prefix = "" if expert == "both" else f"{expert}="
        return ((*loras, f"{prefix}{path}:{strength}"),)


class Generate:
    """Text, and an image or two, to a video."""

    RETURN_TYPES = ("IMAGE", "FLOAT", "STRING")
    RETURN_NAMES = ("images", "fps", "recipe")
    FUNCTION = "generate"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "pipeline": (PIPELINE,),
                "prompt": PROMPT,
                "negative_prompt": PROMPT,
                "seed": SEED,
                "width": number("INT", 8192, "pixels", 8),
                "height": number("INT", 8192, "pixels", 8),
                "frames": number("INT", 100_000, "rounded to a number that the model can make"),
                "fps": number("FLOAT", 1000, "frames per second"),
                "mode": choice("fast", "quality"),
                "steps": number("INT", 1000, "denoising steps"),
                "guidance_scale": number("FLOAT", 100, "how strongly the clip follows the prompt; 1 turns it off", 0.1),
                "camera": ("STRING", {"default": "", "tooltip": "such as pan=5,zoom=-3"}),
            },
            "optional": {"image": ("IMAGE",), "last_image": ("IMAGE",)},
        }

    def generate(
        self, pipeline: kinora.Pipeline, prompt: str, seed: int, image: Any = None, last_image: Any = None, **options: Any
    ) -> tuple[Any, float, str]:
        pictures = {"image": first_of(image), "last_image": first_of(last_image)}
        return outputs(pipeline.generate(prompt, seed=seed, progress=told(), **pictures, **given(options)))


class Extend:
    """A longer video, from the end of one on."""

    RETURN_TYPES = Generate.RETURN_TYPES
    RETURN_NAMES = Generate.RETURN_NAMES
    FUNCTION = "extend"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "pipeline": (PIPELINE,),
                "images": ("IMAGE",),
                "fps": ("FLOAT", {"default": 16.0, "min": 0.01, "max": 1000.0, "step": 0.001}),
                "prompt": PROMPT,
                "seed": SEED,
                "seconds": ("FLOAT", {"default": 5.0, "min": 0.1, "max": 3600.0, "step": 0.1}),
                "camera": ("STRING", {"default": "", "tooltip": "such as pan=5,zoom=-3, or a preset"}),
            },
            "optional": {
                "recipe": ("STRING", {"forceInput": True, "tooltip": "of the images: its settings go on"}),
            },
        }

    def extend(
        self, pipeline: kinora.Pipeline, images: Any, fps: float, prompt: str, seed: int, recipe: str = "", **options: Any
    ) -> tuple[Any, float, str]:
        clip = kinora.Clip(frames_of(images), fps, recipe=json.loads(recipe) if recipe else None)
        return outputs(pipeline.extend(clip, prompt or None, seed=seed, progress=told(), **given(options)))


NODE_CLASS_MAPPINGS = {
    "KinoraLoadModel": LoadModel,
    "KinoraLora": Lora,
    "KinoraGenerate": Generate,
    "KinoraExtend": Extend,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "KinoraLoadModel": "Kinora: Load Model",
    "KinoraLora": "Kinora: LoRA",
    "KinoraGenerate": "Kinora: Text or Image to Video",
    "KinoraExtend": "Kinora: Extend Video",
}
