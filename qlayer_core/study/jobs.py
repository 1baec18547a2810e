"""One job of the workflow, and the words by which parts of the paper's grid are asked for."""

from dataclasses import dataclass, replace

STAGES = ("train", "evaluate", "adapt", "likelihoods", "vary", "trail")
SMOKE = "smoke"
TRIAL = ("dataset", "model", "spec", "images", "tables")  # what the configuration of a smoke run says
ADAPTIVE, SETTINGS, TRAILS = "adaptive", "settings", "trails"


@dataclass(frozen=True)
class Job:
    """One piece of work: a stage of a network, or the PixelCNN over its codes (over "pixels" without one).

    The model of a variant is both names, ``q-base/no-gate``.
    """

    stage: str
    dataset: str
    model: str
    seed: int = 0

    def __str__(self) -> str:
        """Return for example ``train mnist q-base seed 0``."""
        return f"{self.stage} {self.dataset} {self.model} seed {self.seed}"

    @property
    def marker(self) -> str:
        """The file that tells Snakemake that the job ended well, relative to the root.

        It is not the record itself: Snakemake deletes what a job was to write when the job fails.
        """
        return f"runs/workflow/{self.dataset}/{self.model}/seed{self.seed}.{self.stage}"

    @property
    def training(self) -> "Job":
        """The job that trains the network that this one is about."""
        return replace(self, stage="vary" if "/" in self.model else "train")
