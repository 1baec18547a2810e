"""The Q-Layer: quantize a feature map inside a convolutional network to filter out adversarial perturbations."""

__version__ = "0.2.0"
