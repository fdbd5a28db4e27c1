"""Checked by mypy, not run: it finds a mistake in each marked line."""

import kinora

pipeline = kinora.Pipeline()
pipeline.generate("a red ball", steps="4")  # wrong
pipeline.generate("a red ball", stepz=4)  # wrong
pipeline.generate(7)  # wrong
pipeline.generate("a red ball", mode="best")  # wrong
pipeline.generate("a red ball", progress=3)  # wrong
pipeline.extend("clip.mp4", width=64)  # wrong
kinora.Pipeline(dtype="f8")  # wrong
clip: str = pipeline.generate("a red ball")  # wrong
