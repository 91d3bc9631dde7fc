from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from monai.losses import DeepSupervisionLoss, DiceCELoss, DiceLoss
from torch import nn

from analogmed.data import Task
from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.models import build_model
from analogmed.training.losses import deep_supervision, distillation, make_loss
from analogmed.training.settings import LossConfig


def task_of(*classes):
    return Task("lesions", Path(), 2, ("image",), classes, (8, 8), "px", (), (), (), read=None)


BINARY, TWO_CLASSES = task_of("lesion"), task_of("lesion", "organ")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def batch(task, size=(8, 8)):
    logits = torch.randn(3, task.out_channels, *size, requires_grad=True)
    labels = torch.randint(0, max(2, task.out_channels), (3, 1, *size))
    return logits, labels


def test_of_one_logit_it_is_soft_dice_and_binary_cross_entropy():
    logits, labels = batch(BINARY)
    prob, truth = logits.sigmoid(), labels.float()
    overlap, size = (prob * truth).sum(), (prob + truth).sum()
    dice = 1 - (2 * overlap + 1e-5) / (size + 1e-5)
    cross_entropy = F.binary_cross_entropy(prob, truth)
    loss = make_loss(BINARY, LossConfig(dice=2.0, cross_entropy=0.5))
    torch.testing.assert_close(loss(torch.empty(0), logits, labels), 2 * dice + 0.5 * cross_entropy)


def test_of_several_logits_it_is_monais_of_a_softmax():
    logits, labels = batch(TWO_CLASSES)
    dice = DiceLoss(softmax=True, to_onehot_y=True, batch=True)(logits, labels)
    cross_entropy = F.cross_entropy(logits, labels[:, 0])
    loss = make_loss(TWO_CLASSES, LossConfig(dice=0.3, cross_entropy=2.0))
    torch.testing.assert_close(
        loss(torch.empty(0), logits, labels), 0.3 * dice + 2.0 * cross_entropy
    )


@pytest.mark.parametrize("task", [BINARY, TWO_CLASSES])
def test_loss_of_bfloat16_logits_is_computed_in_float32(task):
    logits, labels = batch(task)
    loss = make_loss(task, LossConfig())(torch.empty(0), logits.bfloat16(), labels)
    assert loss.dtype is torch.float32
    expected = make_loss(task, LossConfig())(torch.empty(0), logits.bfloat16().float(), labels)
    assert torch.equal(loss, expected)


def test_heads_of_deep_supervision_weigh_half_of_the_one_before():
    values = [torch.full((1, 1, 4, 4), value) for value in (1.0, 2.0, 4.0)]
    total = deep_supervision(lambda head, _: head.mean(), values, torch.zeros(1, 1, 4, 4))
    torch.testing.assert_close(total, torch.tensor((1 + 2 / 2 + 4 / 4) / (1 + 1 / 2 + 1 / 4)))


@pytest.mark.parametrize("task", [BINARY, TWO_CLASSES])
def test_labels_of_coarse_heads_are_resampled_as_monai_does(task):
    finest, labels = batch(task, (8, 12))
    heads = (finest, batch(task, (4, 6))[0], batch(task, (2, 6))[0])
    one = task.out_channels == 1
    single = DiceCELoss(sigmoid=one, softmax=not one, to_onehot_y=not one, batch=True)
    monai = DeepSupervisionLoss(single, weights=[4 / 7, 2 / 7, 1 / 7])
    loss = make_loss(task, LossConfig(deep_supervision=True))
    torch.testing.assert_close(loss(torch.empty(0), heads, labels), monai(heads, labels.float()))


def test_without_deep_supervision_only_the_first_head_counts():
    (logits, labels), coarse = batch(BINARY), batch(BINARY, (4, 4))[0]
    loss = make_loss(BINARY, LossConfig())
    assert torch.equal(
        loss(torch.empty(0), (logits, coarse), labels), loss(torch.empty(0), logits, labels)
    )


def test_deep_supervision_of_a_single_output_is_refused():
    logits, labels = batch(BINARY)
    loss = make_loss(BINARY, LossConfig(deep_supervision=True))
    with pytest.raises(ConfigError, match="unetpp or dynunet"):
        loss(torch.empty(0), logits, labels)


def test_logits_smaller_than_the_labels_are_refused():
    logits, labels = torch.zeros(2, 1, 12, 16), torch.zeros(2, 1, 16, 16)
    loss = make_loss(BINARY, LossConfig())
    with pytest.raises(ShapeError, match=r"logits of \(12, 16\) for patches of \(16, 16\)"):
        loss(torch.zeros(2, 3, 16, 16), logits, labels)


def test_distillation_of_one_logit_is_the_divergence_of_coins():
    student, teacher = torch.tensor(0.3).logit(), torch.tensor(0.8).logit()
    divergence = distillation(student.reshape(1, 1, 1), teacher.reshape(1, 1, 1))
    expected = 0.8 * torch.tensor(0.8 / 0.3).log() + 0.2 * torch.tensor(0.2 / 0.7).log()
    torch.testing.assert_close(divergence, expected)


def test_distillation_of_one_logit_has_the_gradient_of_binary_cross_entropy():
    (student, _), (teacher, _) = batch(BINARY), batch(BINARY)
    (ours,) = torch.autograd.grad(distillation(student, teacher.detach()), student)
    soft = teacher.detach().sigmoid()
    (theirs,) = torch.autograd.grad(F.binary_cross_entropy_with_logits(student, soft), student)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_of_several_logits_is_the_divergence_of_softmaxes(temperature):
    (student, _), (teacher, _) = batch(TWO_CLASSES), batch(TWO_CLASSES)
    p, q = (values.div(temperature).softmax(1) for values in (teacher, student))
    expected = temperature**2 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(distillation(student, teacher, temperature), expected)


@pytest.mark.parametrize("task", [BINARY, TWO_CLASSES])
def test_nothing_is_to_be_learned_from_a_teacher_of_the_same_opinion(task):
    logits, _ = batch(task)
    torch.testing.assert_close(distillation(logits, logits, 2.0), torch.tensor(0.0))


def test_distillation_is_added_with_its_weight_and_looks_at_the_first_head():
    (logits, labels), coarse = batch(TWO_CLASSES), batch(TWO_CLASSES, (4, 4))[0]
    teacher = nn.Conv2d(1, 3, 1)
    images = torch.randn(3, 1, 8, 8)
    settings = {"deep_supervision": True, "temperature": 2.0}
    alone = make_loss(TWO_CLASSES, LossConfig(**settings))(images, (logits, coarse), labels)
    both = make_loss(TWO_CLASSES, LossConfig(distillation=0.7, **settings), teacher)
    torch.testing.assert_close(
        both(images, (logits, coarse), labels),
        alone + 0.7 * distillation(logits, teacher(images), 2.0),
    )


def test_teacher_is_evaluated_and_gets_no_gradient():
    teacher = build_model("unet", in_channels=1, out_channels=1, features=2)
    assert teacher.training
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    logits, labels = batch(BINARY, (16, 16))
    loss = make_loss(BINARY, LossConfig(distillation=1.0), teacher)
    loss(torch.randn(3, 1, 16, 16), logits, labels).backward()
    assert logits.grad is not None
    assert all(p.grad is None for p in teacher.parameters())
    after = teacher.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)  # BatchNorm's too


def test_teacher_of_deep_supervision_gives_its_final_masks():
    options = {"features": (4, 4, 4, 4, 4, 4), "deep_supervision": True}
    teacher = build_model("unetpp", in_channels=1, out_channels=1, **options)
    logits, labels = batch(BINARY, (32, 32))
    images = torch.randn(3, 1, 32, 32)
    loss = make_loss(BINARY, LossConfig(distillation=1.0), teacher)(images, logits, labels)
    alone = make_loss(BINARY, LossConfig())(images, logits, labels)
    with torch.no_grad():
        expected = distillation(logits, teacher.train()(images)[0])
    torch.testing.assert_close(loss - alone, expected)


def test_distillation_without_a_teacher_is_refused():
    with pytest.raises(ConfigError, match="distillation needs a network"):
        make_loss(BINARY, LossConfig(distillation=1.0))
