"""Convolutional LSTM, with and without spikes."""

import copy
import pickle

import torch
from snntorch import SConv2dLSTM, SpikingNeuron

from analogmed.models.sequences.conv_lstm import ConvLSTM
from analogmed.models.sequences.spiking import SpikingConvLSTM

SHAPE = (2, 4, 3, 10)  # batch, steps, leads, samples


def test_states_are_the_membranes_of_snntorch():
    torch.manual_seed(0)
    ours, theirs = ConvLSTM(4, 5), SConv2dLSTM(1, 4, (1, 5))
    ours.gates.load_state_dict(theirs.conv.state_dict())
    segments = torch.randn(SHAPE)
    states = ours(segments)
    current = membrane = torch.zeros(2, 4, 3, 10)
    for index, segment in enumerate(segments.unbind(1)):
        _, current, membrane = theirs(segment[:, None], current, membrane)
        assert torch.equal(states[:, index], membrane)


def test_leads_are_not_mixed():
    layer, segments = ConvLSTM(4, 5), torch.randn(SHAPE)
    changed = segments.clone()
    changed[:, :, 1] += 1
    difference = (layer(changed) - layer(segments)).abs().amax((0, 1, 2, 4))
    assert difference[1] > 0
    assert (difference[[0, 2]] == 0).all()


def spiking():
    torch.manual_seed(0)
    return SpikingConvLSTM(4, 5, 0.1)


def test_a_spike_is_a_membrane_above_the_threshold_and_every_call_starts_at_rest():
    layer, segments = spiking(), torch.randn(SHAPE)
    plain = ConvLSTM(4, 5)
    plain.gates.load_state_dict(layer.neuron.conv.state_dict())
    spikes = layer(segments)
    assert torch.equal(spikes, (plain(segments) > 0.1).float())
    assert 0 < spikes.mean() < 1
    assert torch.equal(layer(segments), spikes)


def test_weights_and_threshold_learn_through_the_spikes():
    layer = spiking()
    layer(torch.randn(SHAPE)).sum().backward()
    gradients = {name: p.grad for name, p in layer.named_parameters()}
    assert gradients["neuron.threshold"] != 0
    assert gradients["neuron.conv.weight"].abs().sum() > 0


def test_a_network_is_copied_and_pickled_after_a_pass_with_gradients_and_is_freed():
    before = len(SpikingNeuron.instances)
    layer, segments = spiking(), torch.randn(SHAPE)
    expected = layer(segments)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(segments), expected)
    assert len(SpikingNeuron.instances) == before
