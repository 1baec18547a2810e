"""Every claim of the paper as data: a sentence, its section, and comparisons of the numbers that carry it.

Sentences are ours. A comparison under the paper's protocol is between two of its cells; one under the strongest
attack is between the worst cases over all attacks of the ladder, where networks are compared of which one is
raw-trained also at a smaller epsilon than the paper's: at the larger ones nothing may be left to compare.
"""

from qlayer_core.study import evidence, paper
from qlayer_core.study.evidence import Claim, Comparison, Value, worst_case

FGSM_BIM = {
    "mnist": "fgsm 0.2, fgsm 0.3, bim 0.2, bim 0.3",
    "fashion-mnist": "fgsm 0.1, fgsm 0.2, bim 0.1, bim 0.2",
}
SMALL = {"mnist": "fgsm 0.2, bim 0.2", "fashion-mnist": "fgsm 0.1, bim 0.1"}
LARGE = {"mnist": "fgsm 0.3, bim 0.3", "fashion-mnist": "fgsm 0.2, bim 0.2"}
WHITE_SMALL, WHITE_LARGE = "fgsm 0.2, bim 0.2, cw 0.2", "fgsm 0.3, bim 0.3, cw 0.3"
SMALLER, LARGER = "fgsm 0.1, bim 0.1, cw 0.1", "fgsm 0.2, bim 0.2, cw 0.2"  # white box on Fashion-MNIST
CLOSE = 5.0  # points within which accuracies are "similar" or "comparable"
SLIGHT = 2.0  # points that are a "slight" cost
MUCH = 10.0  # points that are "significantly" or "much" more

Q, Q_ADV = ("q-base", "q-large"), ("q-base-adv", "q-large-adv")
TARGETS = ("cnn", *Q)


def _each(models: tuple[str, ...], build) -> tuple[Comparison, ...]:
    return tuple(comparison for model in models for comparison in build(model))


CLAIMS = (
    Claim(
        "black box, MNIST",
        "4.2",
        "A layer put into the CNN makes it more robust against images made on another network.",
        _each(Q, lambda q: evidence.pairs(f"1a {q}", "1a cnn", FGSM_BIM["mnist"])),
        _each(Q, lambda q: evidence.worst_cases("mnist", q, "cnn", 0.1, 0.2, 0.3)),
    ),
    Claim(
        "black box, Fashion-MNIST",
        "4.2",
        "On Fashion-MNIST, too, the layer makes the CNN more robust against images made on another network.",
        _each(Q, lambda q: evidence.pairs(f"1b {q}", "1b cnn", FGSM_BIM["fashion-mnist"])),
        _each(Q, lambda q: evidence.worst_cases("fashion-mnist", q, "cnn", 0.05, 0.1, 0.2)),
    ),
    Claim(
        "another architecture's images",
        "E",
        "The layer also helps against images made on a network of another architecture.",
        _each(
            Q,
            lambda q: (
                evidence.pairs(f"7a {q}", "7a cnn", FGSM_BIM["mnist"])
                + evidence.pairs(f"7b {q}", "7b cnn", FGSM_BIM["fashion-mnist"])
            ),
        ),
    ),
    Claim(
        "better than adversarial training",
        "4.2",
        "Under black-box BIM 0.3, the raw-trained Q-large is more often right than the adversarially trained CNN.",
        evidence.pairs("1a q-large", "1a cnn-adv", "bim 0.3"),
        evidence.worst_cases("mnist", "q-large", "cnn-adv", 0.1, 0.2, 0.3),
    ),
    Claim(
        "adversarial training helps all",
        "4.2",
        "Adversarial training makes every network more robust, those with the layer too.",
        _each(TARGETS, lambda model: evidence.pairs(f"1a {model}-adv", f"1a {model}", FGSM_BIM["mnist"])),
        _each(TARGETS, lambda model: evidence.worst_cases("mnist", f"{model}-adv", model, 0.1, 0.2, 0.3)),
    ),
    Claim(
        "the larger eps, the more the layer helps",
        "4.2",
        "After adversarial training, all networks are about equally robust under small perturbations, and those with"
        " the layer are ahead under large ones.",
        _each(
            Q_ADV,
            lambda q: (
                evidence.pairs(f"1a {q}", "1a cnn-adv", SMALL["mnist"], CLOSE, near=True)
                + evidence.pairs(f"1a {q}", "1a cnn-adv", LARGE["mnist"])
                + evidence.pairs(f"1b {q}", "1b cnn-adv", SMALL["fashion-mnist"], CLOSE, near=True)
                + evidence.pairs(f"1b {q}", "1b cnn-adv", LARGE["fashion-mnist"])
            ),
        ),
        _each(
            Q_ADV,
            lambda q: (
                evidence.worst_cases("mnist", q, "cnn-adv", 0.2, by=CLOSE, near=True)
                + evidence.worst_cases("mnist", q, "cnn-adv", 0.3)
                + evidence.worst_cases("fashion-mnist", q, "cnn-adv", 0.1, by=CLOSE, near=True)
                + evidence.worst_cases("fashion-mnist", q, "cnn-adv", 0.2)
            ),
        ),
    ),
    Claim(
        "white box, raw",
        "4.3",
        "Raw-trained networks with the layer are far more robust than the CNN against an attacker who sees them.",
        _each(Q, lambda q: evidence.pairs(f"2a {q}", "2a cnn", f"{WHITE_SMALL}, {WHITE_LARGE}", MUCH)),
        _each(Q, lambda q: evidence.worst_cases("mnist", q, "cnn", 0.1, 0.2, 0.3, by=MUCH)),
    ),
    Claim(
        "white box, adversarially trained",
        "4.3",
        "Against an attacker who sees the network, the adversarially trained CNN is slightly ahead under small"
        " perturbations, and the adversarially trained networks with the layer are ahead under large ones.",
        _each(
            Q_ADV,
            lambda q: (
                evidence.pairs("2a cnn-adv", f"2a {q}", WHITE_SMALL, most=CLOSE)
                + evidence.pairs(f"2a {q}", "2a cnn-adv", WHITE_LARGE)
            ),
        ),
        _each(
            Q_ADV,
            lambda q: (
                evidence.worst_cases("mnist", "cnn-adv", q, 0.2, most=CLOSE)
                + evidence.worst_cases("mnist", q, "cnn-adv", 0.3)
            ),
        ),
    ),
    Claim(
        "white box, Fashion-MNIST",
        "4.3",
        "On Fashion-MNIST, the results against an attacker who sees the network are similar to those on MNIST.",
        _each(
            Q_ADV,
            lambda q: (
                evidence.pairs("2b cnn-adv", f"2b {q}", SMALLER, most=CLOSE)
                + evidence.pairs(f"2b {q}", "2b cnn-adv", LARGER)
            ),
        )
        + _each(Q, lambda q: evidence.pairs(f"2b {q}", "2b cnn", f"{SMALLER}, {LARGER}")),
        _each(
            Q_ADV,
            lambda q: (
                evidence.worst_cases("fashion-mnist", "cnn-adv", q, 0.1, most=CLOSE)
                + evidence.worst_cases("fashion-mnist", q, "cnn-adv", 0.2)
            ),
        )
        + _each(Q, lambda q: evidence.worst_cases("fashion-mnist", q, "cnn", 0.05, 0.1, 0.2)),
    ),
    Claim(
        "layer between the convolutions, black box",
        "4.4",
        "Against images made on another network, a layer between the convolutions helps as much as one behind them.",
        evidence.pairs("3a q-inner", "3a q-large", FGSM_BIM["mnist"], CLOSE, near=True),
    ),
    Claim(
        "layer between the convolutions, white box",
        "4.4",
        "Against an attacker who sees the network, the layer helps more between the convolutions: it filters better.",
        evidence.pairs("3b q-inner", "3b q-large", f"{WHITE_SMALL}, {WHITE_LARGE}"),
        evidence.worst_cases("mnist", "q-inner", "q-large", 0.1, 0.2, 0.3),
    ),
    Claim(
        "source A is the stronger attacker",
        "4.2",
        "Images made on a network of the target's own architecture generally fool it more often than images made on"
        " one of another architecture.",
        _each(
            (*TARGETS, "cnn-adv", *Q_ADV),
            lambda model: (
                evidence.pairs(f"7a {model}", f"1a {model}", FGSM_BIM["mnist"])
                + evidence.pairs(f"7b {model}", f"1b {model}", FGSM_BIM["fashion-mnist"])
            ),
        ),
        most=True,
    ),
    Claim(
        "C&W transfers badly",
        "4.2",
        "C&W, strong against the network that it sees, is weaker than FGSM and BIM against another one.",
        tuple(
            Comparison(
                *(Value("mnist", "cnn", "black-box", attack, eps, "cnn-a") for attack in ("cw", other))
            )
            for other in ("fgsm", "bim")
            for eps in (0.2, 0.3)
        ),
    ),
    Claim(
        "codes are less distorted than pixels",
        "4.2, Figure 2",
        "An attack changes the distribution of an image's codes less than that of its pixels.",
        tuple(  # the paper does not say whose codes it scores
            Comparison(
                Value("mnist", "pixels", "divergence", "published fgsm kl published", 0.4),
                Value("mnist", q, "divergence", "fgsm kl published", 0.4),
                published=(paper.FIGURE_2["pixels"], paper.FIGURE_2["concepts"]),
            )
            for q in Q
        ),
        note="The published formula compares the likelihoods of two different models, which have no common scale.",
    ),
    Claim(
        "the Q-path is the robust one",
        "D",
        "Of a raw-trained network's two answers, the quantized one is more robust.",
        _each(
            Q,
            lambda q: (
                evidence.pairs(f"6a {q} q", f"6a {q} e", FGSM_BIM["mnist"])
                + evidence.pairs(f"6b {q} q", f"6b {q} e", f"{WHITE_SMALL}, {WHITE_LARGE}")
            ),
        ),
        tuple(  # each answer under the attack that is made for it
            Comparison(
                worst_case("mnist", q, eps), Value("mnist", q, "white-box", "bim", eps, None, "e", "e")
            )
            for q in Q
            for eps in (0.2, 0.3)
        ),
        note="Under the paper's protocol the attack follows the path of the other answer: it is made for that one.",
    ),
    Claim(
        "quantizing costs information",
        "D",
        "After adversarial training, the answer that is not quantized is slightly better under small perturbations.",
        _each(Q_ADV, lambda q: evidence.pairs(f"6a {q} e", f"6a {q} q", f"clean, {SMALL['mnist']}")),
    ),
    Claim(
        "more heads, raw",
        "F",
        "Raw-trained, more sub-spaces bring more robustness, whatever the number of codes.",
        tuple(
            comparison
            for more, less in (("K=2", "K=1"), ("K=4", "K=2"))
            for comparison in evidence.pairs(f"8a {more}", f"8a {less}", "n_c=16, n_c=64, n_c=128")
        ),
    ),
    Claim(
        "more heads, adversarially trained",
        "F",
        "After adversarial training, more sub-spaces help where there are few codes.",
        evidence.pairs("8b K=2", "8b K=1", "n_c=16") + evidence.pairs("8b K=4", "8b K=2", "n_c=16"),
    ),
    Claim(
        "too few codes",
        "F",
        "With one head, 16 codes lose too much information: 64 do better, raw-trained and adversarially trained.",
        tuple(
            evidence.compare(*(paper.TABLES[number].cell("K=1", column) for column in ("n_c=64", "n_c=16")))
            for number in ("8a", "8b")
        ),
        note="The paper's text says so of adversarial training, as a conjecture; its table shows it of both.",
    ),
    Claim(
        "several heads make up for lost information",
        "3.3",
        "Quantizing with several heads loses less information than with one: clean images are more often right.",
        evidence.pairs("1a q-large", "1a q-base", "clean")
        + evidence.pairs("1b q-large", "1b q-base", "clean"),
    ),
    Claim(
        "little is lost on clean images",
        "1",
        "The layer protects without costing the network much of its accuracy.",
        _each(
            Q,
            lambda q: (
                evidence.pairs(f"1a {q}", "1a cnn", "clean", CLOSE, True)
                + evidence.pairs(f"1b {q}", "1b cnn", "clean", CLOSE, True)
            ),
        ),
    ),
    Claim(
        "two tails are better than one",
        "G",
        "A tail of its own for each path makes the network more robust.",
        evidence.pairs("9 q-large", "9 q-large-shared", FGSM_BIM["mnist"])
        + evidence.pairs("10 q-large", "10 q-large-shared", f"{WHITE_SMALL}, {WHITE_LARGE}"),
        evidence.worst_cases("mnist", "q-large", "q-large-shared", 0.1, 0.2, 0.3),
    ),
    Claim(
        "two tails are harder to train",
        "G",
        "With one tail for both paths, clean images are more often right.",
        evidence.pairs("9 q-large-shared", "9 q-large", "clean"),
    ),
    Claim(
        "the shortcut is the weaker attack",
        "4.3, H",
        "Attacks through the shortcut, from the features to the Q-path's tail, are usually weaker than those by the"
        " E-path.",
        _each(
            (*Q, *Q_ADV),
            lambda q: evidence.pairs(
                f"11 {q} via shortcut", f"11 {q} via e", f"{WHITE_SMALL}, {WHITE_LARGE}"
            ),
        ),
        evidence.rungs("apgd on the shortcut", "apgd on the e-path", *Q),
        most=True,
    ),
    Claim(
        "the E-path is what an attacker has",
        "1, 4.1",
        "Quantizing stops attacks that follow the gradient, so an attacker has to go round it, along the E-path.",
        strongest=tuple(
            Comparison(
                worst_case("mnist", q, eps),
                Value("mnist", q, "ladder", "bim on the e-path", eps),
                CLOSE,
                True,
            )
            for q in Q
            for eps in (0.2, 0.3)
        ),
    ),
    Claim(
        "selection on mixed images",
        "C",
        "A CNN that is chosen on a mixed validation set is far more robust, at a slight cost in clean accuracy.",
        evidence.pairs("5 cnn", "5 cnn-clean-selected", FGSM_BIM["mnist"], MUCH)
        + evidence.pairs("5 cnn", "5 cnn-clean-selected", "clean", SLIGHT, near=True),
        evidence.worst_cases("mnist", "cnn", "cnn-clean-selected", 0.1, 0.2, 0.3),
    ),
    Claim(
        "the ratio of alpha and beta does not matter",
        "3.4, B",
        "The ratio of the two quantization losses, if it is between a tenth and ten, changes the result little.",
        evidence.validation("alpha-x-10", "chosen", *Q, by=CLOSE, near=True)
        + evidence.validation("beta-x-10", "chosen", *Q, by=CLOSE, near=True),
    ),
    Claim(
        "pulling inactive codes beats setting them",
        "3.5",
        "Moving an unused code towards the closest feature vector works better than setting it to that vector.",
        evidence.validation("inactive-pull", "inactive-reinitialize", *Q),
        note="Measured in raw training. In adversarial training Q-base scored higher with codes that are moved, and"
        " Q-large with codes that are set.",
    ),
    Claim(
        "any CNN",
        "1, 5",
        "Put into another CNN, the layer makes it more robust as well.",  # of "any", this is what can be tested
        tuple(
            Comparison(
                Value("mnist", "q-base-b", "black-box", attack, eps, "cnn-a", None, "q"),
                Value("mnist", "cnn-b", "black-box", attack, eps, "cnn-a"),
            )
            for attack in ("fgsm", "bim")
            for eps in (0.2, 0.3)
        ),
    ),
)
