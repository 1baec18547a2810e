"""What is only there for speed. Each piece gives the library's numbers, and its gain pays for its lines.

Gains are ratios in one run on one core with AVX-512, in bfloat16 (in brackets: float32).
"""

import ctypes
import math
import os
import platform

import torch
from torch import Tensor, nn

CHUNK = 512  # panels per head whose distances to all codes are held at once: they fit a core's cache


def nearest(panels: Tensor, codebook: Tensor) -> Tensor:
    """Return the index of the nearest row of each head's codebook, eq. 2; the lowest where two are equally near.

    A search takes 1.5 to 1.6 times as long with the library's `torch.cdist` for four heads, 1.2 times for one; a step
    of Q-large takes 1.04 (1.03) times as long. With all panels at once, without `CHUNK`, a search takes about 1.1
    times as long for four heads, but only 0.9 times for one, and a step shows neither: what is saved is memory, such
    as 100 MB of distances for a batch of Q-inner's.

    Args:
        panels: ``(heads, M, dim)``.
        codebook: ``(heads, codes, dim)``, whose number format decides.

    Returns:
        ``(heads, M)`` int64.
    """
    # |p - q|^2 = |p|^2 - 2 p.q + |q|^2; the first term is the same for all codes.
    half_norms = codebook.square().sum(-1).div(2).unsqueeze(1)  # (heads, 1, codes)

    def search(some: Tensor) -> Tensor:
        some = some.to(codebook.dtype, memory_format=torch.contiguous_format)
        return torch.baddbmm(half_norms, some, codebook.transpose(1, 2), alpha=-1).min(-1).indices

    with torch.autocast(panels.device.type, enabled=False):
        if panels.device.type != "cpu" or torch.compiler.is_compiling():  # an exported graph takes any batch
            return search(panels)
        return torch.cat([search(some) for some in panels.split(CHUNK, dim=1)], dim=1)


class RAdam(torch.optim.Adam):
    """Rectified Adam (Liu et al., 2019) on the library's fused Adam kernel.

    The same numbers as `torch.optim.RAdam` up to the place of its 1e-8. RAdam is Adam whose learning rate is
    multiplied by a factor that depends on the step alone, except in its first five steps, which are momentum. The
    library fuses Adam into one pass over memory but not RAdam, and the large linear layers make the optimizer the
    slowest part of a step otherwise: a step of Q-large takes 1.35 (1.19) times as long with the library's.

    Args:
        params: what to optimize.
        lr: learning rate.
        betas: decay of the two moments.
    """

    def __init__(self, params, lr: float = 0.001, betas: tuple[float, float] = (0.9, 0.999)):
        super().__init__(params, lr=lr, betas=betas, fused=True)
        for group in self.param_groups:
            group["steps"] = 0  # a plain number: the kernel's own count lies on the device

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step; ``closure`` is not supported."""
        if closure is not None:
            raise ValueError("RAdam takes no closure: compute the gradients before calling step()")
        for group in self.param_groups:
            t = group["steps"] = group.get("steps", 0) + 1  # a group may have been added later
            learning_rate = group["lr"]
            factor = rectification(t, group["betas"][1])
            group["lr"] = learning_rate * (factor or 0.0)
            group["momentum_rate"] = 0.0 if factor else learning_rate / (1 - group["betas"][0] ** t)
            group["wanted_lr"] = learning_rate
        super().step()  # with a zero learning rate it only updates the moments
        for group in self.param_groups:
            group["lr"] = group.pop("wanted_lr")
            if rate := group.pop("momentum_rate"):
                for p in group["params"]:
                    if p.grad is not None:
                        p.sub_(self.state[p]["exp_avg"], alpha=rate)


def rectification(t: int, beta2: float) -> float | None:
    """Return r_t of Liu et al. (2019), Algorithm 2, at step ``t`` >= 1; None while the variance is intractable."""
    limit = 2 / (1 - beta2) - 1
    length = limit - 2 * t * beta2**t / (1 - beta2**t)
    if length <= 5:
        return None
    return math.sqrt((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length))


class Dropout(nn.Dropout):
    """Dropout whose mask costs one random byte per number: the library's draws one 64-bit number each.

    Same distribution as `torch.nn.Dropout`, with a probability rounded to a multiple of 1/256. A step of a network
    that uses it takes 1.08 to 1.21 (1.03 to 1.09) times as long with the library's.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Zero each number with probability ``p`` and scale the others, in training mode."""
        if not self.training:
            return x
        draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
        draws.random_(torch.iinfo(torch.int64).min, None)  # every one of the 64 bits is random
        # In the layout and number format of x, which holds a byte exactly: all passes below are then quick.
        laid_out = draws.view(torch.uint8).as_strided(x.shape, torch.empty_like(x, device="meta").stride())
        dropped = round(256 * self.p)  # of 256
        keep = laid_out.to(x.dtype).ge_(dropped)
        return x * keep.mul_(256 / max(256 - dropped, 1))  # what is dropped in full needs no scale


def keep_memory() -> None:
    """Let the C library keep freed memory for the next tensor; a no-op where it isn't glibc.

    By default it maps every large tensor anew, and the kernel clears each page at its first touch: without this a
    step of the CNN takes 1.35 to 1.55 (1.17 to 1.22) times as long. It concerns the whole process, so programs call
    it, and importing the package does not.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch asks for huge pages: far fewer first touches
    if platform.libc_ver()[0] == "glibc":
        mmap_max, trim_threshold, arena_max = -4, -1, -8  # names of mallopt's parameters in malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(arena_max, 1)  # the backward pass has its own thread, whose arena would be unmapped
        libc.mallopt(trim_threshold, 2**31 - 1)
