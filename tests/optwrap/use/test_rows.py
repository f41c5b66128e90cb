"""What a task predicts as rows of CSV."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from optwrap.errors import ConfigError
from optwrap.use.rows import Rows, predict_step
from optwrap.vision import ClassificationTask


def task_that_returns(value):
    return SimpleNamespace(predict_step=lambda batch: value)


def test_classes_and_names_are_shown_and_no_text_is_a_formula():
    columns = {
        "target": torch.tensor([1, 0]),
        "prediction": torch.tensor([1, 2]),
        "correct": torch.tensor([True, False]),
        "loss": torch.tensor([0.25, float("nan")]),
        "probability": torch.tensor([[0.125, 0.75, 0.125], [0.5, 0.25, 0.25]]),
    }
    rows = Rows(["cat", "=dog", "a,b"], lambda row: f"-{row}.png")
    assert rows.header(columns) == (
        'index,name,target,prediction,correct,loss,probability_cat,probability_=dog,"probability_a,b"\n'
    )
    assert rows.lines(columns, 7) == (
        "7,'-7.png,'=dog,'=dog,1,0.25,0.125,0.75,0.125\n8,'-8.png,cat,\"a,b\",0,nan,0.5,0.25,0.25\n"
    )


def test_columns_of_another_number_than_the_classes_are_counted():
    columns = {"target": torch.tensor([0.5]), "box": torch.tensor([[1, 2]])}
    rows = Rows(["a", "b", "c"], None)
    assert (rows.header(columns), rows.lines(columns, 0)) == ("index,target,box_0,box_1\n", "0,0.5,1,2\n")


def test_without_a_method_it_is_what_the_model_makes_of_the_first_part_of_a_batch():
    task = SimpleNamespace(model=nn.Linear(3, 2))
    inputs = torch.randn(4, 3)
    for batch in (inputs, (inputs, torch.zeros(4))):
        assert torch.equal(predict_step(task, batch)["output"], task.model(inputs))


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (task_that_returns(torch.zeros(2)), r"predict_step\(batch\) of SimpleNamespace returned Tensor"),
        (task_that_returns({"a": torch.zeros(2), "b": torch.zeros(3)}), r"'b': \(3,\)"),
        (task_that_returns({"a": torch.tensor(0.0)}), r"'a': \(\)"),
        (task_that_returns({"a": ["text"]}), r"returned a column that is no tensor"),
        (
            SimpleNamespace(model=nn.Linear(5, 2)),
            r"the model cannot be called.*Give the task a method predict_step",
        ),
        (SimpleNamespace(model=nn.Conv1d(3, 2, 1)), r"the model cannot be called|no row of numbers"),
    ],
)
def test_what_is_no_row_a_sample_says_what_to_write(task, said):
    with pytest.raises(ConfigError, match=said):
        predict_step(task, (torch.randn(4, 3), torch.zeros(4)))
    with pytest.raises(ConfigError, match="a batch is a dict"):
        predict_step(SimpleNamespace(model=nn.Identity()), {"x": torch.zeros(2)})


def test_inputs_alone_have_predictions_without_targets():
    task = ClassificationTask(nn.Linear(4, 3), 3)
    images = torch.randn(5, 4)
    columns = predict_step(task, images)
    assert list(columns) == ["prediction", "probability"]
    assert torch.equal(columns["probability"], task.model(images).softmax(dim=1))
