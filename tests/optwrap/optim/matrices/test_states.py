import torch

from optwrap.optim.assignment.hidden.cut import Cut
from optwrap.optim.matrices.states import join_states, split_state

SHAPE = torch.Size([6, 4])
CUT = Cut(sizes=(4, 2))


def test_what_has_the_shapes_of_the_matrices_becomes_one_tensor_of_which_they_are_views():
    states = [{"momentum": torch.ones(4, 4)}, {"momentum": torch.zeros(2, 4)}]
    whole = join_states(states, CUT, SHAPE)
    assert whole["momentum"].shape == SHAPE
    states[1]["momentum"].fill_(3)
    assert whole["momentum"][4:].eq(3).all()
    assert [each["momentum"].shape for each in split_state(whole, CUT, SHAPE, 2)] == [(4, 4), (2, 4)]


def test_what_has_not_stands_there_with_its_number_under_any_kind_of_name():
    states = [{"step": torch.tensor(1.0), 0: {"q": 1}}, {"step": torch.tensor(2.0), 0: {"q": 2}}]
    whole = join_states(states, CUT, SHAPE)
    assert set(whole) == {"step.0", "step.1", (0, 0), (0, 1)}
    assert split_state(whole, CUT, SHAPE, 2) == states


def test_what_was_of_one_matrix_goes_to_each_part_as_a_copy():
    own = {"step": torch.tensor(1.0)}
    first, second = split_state(own, CUT, SHAPE, 2)
    first["step"] += 1
    assert second["step"] == 1
    (only,) = split_state({"step": own["step"], "v.1": 3}, Cut(), SHAPE, 1)
    assert only["step"] is own["step"]
    assert only["v.1"] == 3
