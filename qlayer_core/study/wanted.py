"""Which networks are measured, not only trained: for the tables, up the ladder of attacks, with another setting."""

from qlayer_core import datasets
from qlayer_core.study import experiments, paper, statements, variants
from qlayer_core.study.jobs import SMOKE
from qlayer_core.study.likelihoods import PIXELS

OTHERS = [f"{name}{how}" for name in (experiments.CONTROL, *experiments.QUANTIZED) for how in ("", "-adv")]
EVALUATED = {(cell.dataset, cell.model) for table in paper.TABLES.values() for cell in table.cells} | {
    *((dataset, name) for dataset in datasets.DATASETS for name in (*OTHERS, *experiments.BY_THE_TEXT)),
    *(("mnist", name) for name in experiments.ON_CNN_B),
}
# The attackers' and the judge's: no targets.
OWN = (*experiments.SOURCES.values(), experiments.VALIDATION_SOURCE)
# Whose results the paper has, and what these rest on, by the names of jobs; a trial is over in seconds.
FIRST = sorted(
    {cell.model for table in paper.TABLES.values() for cell in table.cells} | {*OWN, PIXELS, SMOKE}
)
CLAIMED = {  # whose verdicts under the strongest attack rest on the ladder
    (value.dataset, value.model)
    for claim in statements.CLAIMS
    for comparison in (*claim.protocol, *claim.strongest)
    for value in (comparison.first, comparison.second)
    if value.setting in ("worst case", "ladder")
}
ADAPTED = CLAIMED | {
    *(
        (dataset, name)
        for dataset in datasets.DATASETS
        for name in (
            *(f"{name}{how}" for name in (*experiments.TARGETS, "q-inner") for how in ("", "-adv")),
            *OTHERS,
        )
    ),
    ("mnist", experiments.printed("q-base-adv")),
}
# With the setting that scores best by now: q-base/squared-pull-dropout-behind.
OTHERWISE = [
    f"{name}/{variants.LATER.variant(experiments.spec(name).adversarial)}" for name in variants.DECIDED_ON
]
