"""Which buffers of a model go with the parameters of one of its wrappers."""

from collections.abc import Iterable

from torch import Tensor, nn

from optwrap.optim.assignment.params import submodules


def buffers_beside(model: nn.Module, params: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return by plain name the saved buffers that go with `params`.

    Those go with a parameter that the same module has, or the nearest one around it that has any.

    >>> model = nn.ModuleDict({"a": nn.BatchNorm1d(1), "b": nn.BatchNorm1d(1)})
    >>> list(buffers_beside(model, model["a"].parameters()))
    ['a.running_mean', 'a.running_var', 'a.num_batches_tracked']
    """
    own = {id(param) for param in params}
    saved = {id(value) for value in model.state_dict(keep_vars=True).values()}
    modules = submodules(model)
    found: dict[str, Tensor] = {}
    for path, module in modules.items():
        buffers = [(name, each) for name, each in module.named_buffers(recurse=False) if id(each) in saved]
        around = path
        while buffers and around and next(modules[around].parameters(), None) is None:
            around = around.rpartition(".")[0]
        if buffers and own.intersection(map(id, modules[around].parameters())):
            found |= {f"{path}.{name}".lstrip("."): each for name, each in buffers}
    return found
