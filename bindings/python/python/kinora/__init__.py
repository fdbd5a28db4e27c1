"""Native video diffusion: a prompt goes in, a clip comes out, on your own machine.

>>> import kinora
>>> pipeline = kinora.Pipeline()                         # the model that ships with the package
>>> clip = pipeline.generate("a red ball bounces on a striped blue background", seed=7)
>>> clip.frames.shape                                    # uint8, [F, H, W, 3]
>>> clip.save("ball.mp4")
"""

from ._clip import Clip
from ._errors import KinoraError, Stopped
from ._inputs import Picture
from ._kinora import __version__
from ._models import models, pull, read_recipe
from ._pipeline import ClipOptions, ExtendOptions, Pipeline, Plan
from ._progress import Progress

__all__ = [
    "Clip",
    "ClipOptions",
    "ExtendOptions",
    "KinoraError",
    "Picture",
    "Pipeline",
    "Plan",
    "Progress",
    "Stopped",
    "__version__",
    "models",
    "pull",
    "read_recipe",
]
