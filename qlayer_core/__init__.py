"""The Q-Layer: quantize a feature map inside a convolutional network to filter out adversarial perturbations."""

from qlayer_core.machine import keep_memory

__version__ = "0.1.0"

keep_memory()
