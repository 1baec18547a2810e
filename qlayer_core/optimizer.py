"""RAdam (Liu et al., 2019) on the library's fused Adam kernel."""

import math

import torch


class RAdam(torch.optim.Adam):
    """Rectified Adam, the same numbers as `torch.optim.RAdam` up to the place of its 1e-8.

    RAdam is Adam whose learning rate is multiplied by a factor that depends on the step alone, except in
    its first five steps, which are momentum. The library fuses Adam into one pass over memory but not RAdam,
    and the large linear layers make the optimizer the slowest part of a step otherwise.

    Args:
        params: what to optimize.
        lr: learning rate.
        betas: decay of the two moments.
    """

    def __init__(self, params, lr: float = 0.001, betas: tuple[float, float] = (0.9, 0.999)):
        super().__init__(params, lr=lr, betas=betas, fused=True)

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step; ``closure`` is not supported."""
        if closure is not None:
            raise ValueError("RAdam takes no closure: compute the gradients before calling step()")
        for group in self.param_groups:
            # Parameters without a gradient have no state.
            t = 1 + max((int(self.state[p]["step"]) for p in group["params"] if self.state.get(p)), default=0)
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
