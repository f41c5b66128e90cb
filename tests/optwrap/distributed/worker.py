"""One rank of the tests: runs `train.py` once for each command line that it is given.

    RANK=.. WORLD_SIZE=.. LOCAL_RANK=.. MASTER_ADDR=.. python worker.py JOBS.json

JOBS.json holds [[port, [override, ...]], ...]: each run meets at a port of its own, as each torchrun would.
"""

import json
import logging
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))


def main(jobs: list[tuple[int, list[str]]]) -> None:
    from hydra._internal.hydra import Hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    import train
    from optwrap.record import folder_writer

    Hydra.get_mode = lambda *args, **kwargs: RunMode.RUN  # it composes the config once more
    folder_writer.plot_curves = lambda metrics, path: path.touch()  # drawing takes a third of a short run
    os.chdir(ROOT)
    for port, overrides in jobs:
        os.environ["MASTER_PORT"] = str(port)
        sys.argv[:] = ["train.py", *overrides]
        GlobalHydra.instance().clear()
        train.main()
        for handler in logging.getLogger().handlers[:]:
            logging.getLogger().removeHandler(handler)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
