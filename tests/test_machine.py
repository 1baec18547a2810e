"""The device and the number format follow the machine unless they are chosen."""

import sys
from contextlib import nullcontext

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from qlayer_core import attacks, machine, models, training
from qlayer_core.study import experiments, records


@pytest.mark.parametrize("there, name", [(False, "cpu"), (True, "cuda")])
def test_a_gpu_is_used_where_there_is_one(there, name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    try:
        assert machine.device().type == name
        assert torch.are_deterministic_algorithms_enabled() == there
        assert torch.backends.cudnn.allow_tf32 != there
    finally:
        torch.use_deterministic_algorithms(False)


def test_records_name_the_gpu_and_its_number_format(monkeypatch):
    monkeypatch.delenv("QLAYER_PRECISION")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    here = records.environment(("scoring",), "cuda")
    assert (here["processor"], here["number_format"]) == ("A GPU", "bfloat16")


@pytest.mark.parametrize("name", ["cnn", "q-base", "q-large", "q-inner"])
def test_networks_stay_on_the_device_of_their_images(name):
    """Pretended tensors know their device and refuse to be mixed; they need no GPU."""
    with FakeTensorMode():
        with torch.device("cuda"):
            spec, images = experiments.spec(name), torch.rand(2, 1, 28, 28)
            network = models.q_net(spec.layer) if spec.layer else models.cnn()
        answers = models.answers(network.eval(), images)
    assert {logits.device.type for logits in answers.values()} == {"cuda"}


@pytest.mark.parametrize("name", ["q-base", "q-large", "q-inner"])
def test_gradients_stay_on_the_device_of_their_images(name, monkeypatch):
    """Tensors on "meta" hold no numbers and refuse to be mixed with others; autocast does not know them."""
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: nullcontext())
    network, images = (
        models.build(experiments.spec(name)).eval().to("meta"),
        torch.rand(2, 1, 28, 28, device="meta"),
    )
    problem = attacks.Problem(attacks.surrogate(network), images, None, 0.1)
    for loss in attacks.losses.LOSSES:
        assert problem.gradient(images, loss).device.type == problem.labels.device.type == "meta"
    out = network(images, path="both")
    (out.q.sum() + out.e.sum() + sum(network.layer.losses(out.layer))).backward()
    assert {parameter.grad.device.type for parameter in network.parameters()} == {"meta"}


@pytest.mark.parametrize("name", ["cnn", "q-large"])
def test_no_step_of_training_and_no_iteration_along_a_gradient_waits_for_the_device(name, monkeypatch):
    """A tensor on "meta" has no number to wait for: whoever asks for one gets an error."""
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: nullcontext())
    spec, images = experiments.spec(name), torch.rand(4, 1, 28, 28, device="meta")
    network, labels = models.build(spec).to("meta"), torch.zeros(4, dtype=torch.long, device="meta")
    terms = training.losses(spec, network.train(), images, labels)
    sum(weight * value for weight, value in terms.values()).backward()
    network.eval()
    for attack in (attacks.fgsm, attacks.bim, attacks.pgd):
        problem = attacks.Problem(attacks.surrogate(network), images, labels, 0.1)
        assert attack.__wrapped__(problem).shape == images.shape
    problem = attacks.Problem(attacks.surrogate(network), images, labels, 0.1)
    sys.modules["qlayer_core.attacks.apgd"]._climb(
        problem, images, 20, "ce"
    )  # a restart waits once, to see whom it need not attack
    with pytest.raises(
        RuntimeError
    ):  # a line search goes on with some of the images, and must know with which
        attacks.cw_linf.__wrapped__(problem)


def test_the_kind_of_processor_is_named(monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    records.processor.cache_clear()
    here = records.environment(("scoring",))["processor"]
    assert here == records.processor() and here.endswith(torch.backends.cpu.get_cpu_capability())
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")  # it computes as another kind does
    assert records.processor.__wrapped__() == f"{here}, oneDNN up to AVX2"
    assert len(here) > len(f"x86_64, {torch.backends.cpu.get_cpu_capability()}")


@pytest.mark.parametrize("wish", ["float32", "bfloat16"])
def test_the_chosen_format_is_used(wish, monkeypatch):
    monkeypatch.setenv("QLAYER_PRECISION", wish)
    assert machine.number_format() == wish
    with machine.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert str(product.dtype) == f"torch.{wish}"


@pytest.mark.parametrize("fast", [False, True])
def test_bfloat16_needs_the_instructions(fast, monkeypatch):
    monkeypatch.delenv("QLAYER_PRECISION")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert machine.number_format() == ("bfloat16" if fast else "float32")
    monkeypatch.setenv("QLAYER_PRECISION", "auto")
    assert machine.number_format("cpu") == ("bfloat16" if fast else "float32")


def test_an_unknown_format_is_refused(monkeypatch):
    monkeypatch.setenv("QLAYER_PRECISION", "float16")
    with pytest.raises(
        ValueError, match="QLAYER_PRECISION is 'float16'; set it to one of auto, float32, bfloat16"
    ):
        machine.number_format()
