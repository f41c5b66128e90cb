"""Loads the libraries, then forks a process for each program that a client names."""

import array
import atexit
import compileall
import gc
import importlib
import json
import os
import py_compile
import runpy
import selectors
import shutil
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress

LIBRARIES = (
    *("hydra.main", "hydra._internal.hydra", "hydra._internal.utils", "hydra._internal.config_loader_impl"),
    *("hydra._internal.core_plugins.basic_launcher", "hydra._internal.core_plugins.basic_sweeper"),
    *("torch.distributed.checkpoint.state_dict", "torch.distributed.fsdp", "torch.distributed.launcher.api"),
    *("torch.distributed.elastic.multiprocessing.api", "torch.nn.parallel", "torch.profiler"),
    *("torchmetrics.classification", "torchvision.models", "torchvision.transforms.v2", "sklearn.datasets"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "rich.live", "rich.table", "pytest", "hypothesis"),
)


def load():
    """Import what programs need; nothing that starts threads is done."""
    for library in LIBRARIES:
        importlib.import_module(library)
    tests = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    root = os.path.dirname(tests)
    # Where Python is told to write no bytecode, each program would compile the library anew.
    compileall.compile_dir(
        os.path.join(root, "src"), quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
    )
    runpy.run_path(os.path.join(tests, "parsed_once.py"))["parse_once"]()
    warm_up(os.path.join(root, "conf"))
    # Hydra composes the whole config to learn of `hydra.mode`, and then again: a third of a short run.
    hydra = sys.modules["hydra._internal.hydra"].Hydra
    own = hydra.get_mode
    hydra.get_mode = lambda self, config_name, overrides, **more: (
        own(self, config_name, overrides, **more) if says_mode(overrides) else None
    )
    # Pictures stay empty files: drawing one takes a third of a short run, and tests of pictures draw their own.
    sys.modules["matplotlib.figure"].Figure.savefig = lambda self, path, **options: open(path, "wb").close()
    gc.collect()
    gc.freeze()


def says_mode(overrides):
    """Whether the command line, or a file that it takes, may say whether to sweep."""
    return any(text in override for override in overrides for text in ("hydra.mode", "experiment", "local"))


def warm_up(conf):
    """Parse the project's configs and Hydra's own before the first fork."""
    from omegaconf import OmegaConf

    for root in (conf, os.path.join(os.path.dirname(sys.modules["hydra"].__file__), "conf")):
        for folder, _, files in os.walk(root):
            for name in files:
                if name.endswith(".yaml"):
                    with suppress(Exception):  # a template of another project's may be no YAML
                        OmegaConf.load(os.path.join(folder, name))


def serve(folder, owner):
    """Take requests at `folder/socket` until the process `owner` has ended; then remove the folder."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.join(folder, "socket"))
    listener.listen(64)
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda signum, frame: None)
    watched = selectors.DefaultSelector()
    watched.register(listener, selectors.EVENT_READ, "request")
    watched.register(woken, selectors.EVENT_READ, "ended")
    clients = {}
    while _lives(owner):
        for key, _ in watched.select(timeout=1):
            if key.data == "request":
                client, _ = listener.accept()
                child = _fork(client, [listener, woken, waker, *clients.values()])
                clients[child] = client
                watched.register(client, selectors.EVENT_READ, child)
            elif key.data == "ended":
                woken.recv(4096)
                _reap(clients, watched)
            elif key.data in clients:  # the client was killed: so is what it stands for
                watched.unregister(key.fileobj)
                _kill(key.data)
    for child in clients:
        _kill(child)
    shutil.rmtree(folder)


def _lives(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _fork(client, others):
    size, streams, *_ = client.recvmsg(4, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    files = array.array("i", streams[0][2])
    body = b""
    while len(body) < int.from_bytes(size, "big"):
        body += client.recv(1 << 20)
    child = os.fork()
    if child == 0:
        for each in others:
            each.close()
        _run(json.loads(body), files)
    for file in files:
        os.close(file)
    client.sendall(child.to_bytes(4, "big"))
    return child


def _reap(clients, watched):
    for child in list(clients):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            client = clients.pop(child)
            with suppress(KeyError):
                watched.unregister(client)
            with suppress(OSError):
                client.sendall(status.to_bytes(4, "big"))
            client.close()


def _kill(child):
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def _run(request, files):
    """Be the program: never returns."""
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN if signum in request["ignored"] else signal.SIG_DFL)
    is_ignored = signal.SIGINT in request["ignored"]
    signal.signal(signal.SIGINT, signal.SIG_IGN if is_ignored else signal.default_int_handler)
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [*filter(None, paths), *sys.path[1:]]
    sys.executable = os.environ.get("OPTWRAP_TESTS_PYTHON", sys.executable)
    code = 0
    try:
        _program(request["arguments"])
    except SystemExit as end:
        code = end.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except KeyboardInterrupt:
        traceback.print_exc()
        code = -signal.SIGINT
    except BaseException:
        traceback.print_exc()
        code = 1
    _end(code or 0)


def _program(arguments):
    while arguments[0] in ("-u", "-E"):
        arguments = arguments[1:]
    if arguments[0] == "-c":
        sys.path.insert(0, "")
        sys.argv[:] = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    elif arguments[0] == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv[:] = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))
        sys.argv[:] = arguments
        main = type(sys)("__main__")  # where pickle looks for what a program defines
        main.__file__ = arguments[0]
        sys.modules["__main__"] = main
        with open(arguments[0]) as file:
            exec(compile(file.read(), os.path.abspath(arguments[0]), "exec"), main.__dict__)


def _end(code):
    """End as the interpreter does, but for tearing down what was loaded before the fork."""
    with suppress(Exception):
        threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    load()
    serve(sys.argv[1], int(sys.argv[2]))
