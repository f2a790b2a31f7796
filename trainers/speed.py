"""What makes training on a GPU fast: precision, memory format, one launch instead of hundreds.

A step of a ResNet-18 on 16 images is some 200 kernels of microseconds each; to launch them one by
one may take longer than they run. Recorded in a CUDA graph they are launched at once, with the
same numbers to the bit. Nothing but dropout is random in there: images are augmented beforehand,
many batches at a time (`trainers.classify.train_epoch`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from rankscope.errors import UsageError
from trainers.classify import Batch, Step, Update
from trainers.devices import check_device
from trainers.imageargs import Graph, Precision

# Records a step, given the memory that it works on, and the update that it makes; what comes back
# does it again.
Record = Callable[[Callable[[], None], Update], Callable[[], None]]

# Steps before one is recorded, in which libraries set themselves up; as many as in the examples of
# PyTorch's notes on CUDA graphs.
WARM_UP = 3

# cuBLAS sums in the same order each time when its workspace has a fixed size; of the two that its
# manual names this is the larger, 8 buffers of 4 MiB.
CUBLAS_WORKSPACE = ":4096:8"


def settle(device: str, precision: Precision, graph: Graph) -> None:
    """Set PyTorch up, for the whole process, to give the same numbers at each run on a device.

    To be called before anything is on the device: cuBLAS reads its setting when it starts. What it
    costs: cuDNN chooses among fewer algorithms, and is not to try which is the fastest; attention
    in float32 is that of matrix products. The same numbers are those of one kind of device, with
    one version of PyTorch and its libraries.

    Args:
        device: where training takes place.
        precision: whether float32 matrix products and convolutions on a GPU are rounded to TF32.
            PyTorch by itself rounds in convolutions, and not in products.
        graph: what will be asked of `accelerated`.

    Raises:
        UsageError: there is no such device, or no compiler.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    check_device(device)
    compiler = os.environ.get("CXX", "g++")  # as PyTorch looks for it
    if graph == "compile" and shutil.which(compiler) is None:
        raise UsageError(
            f"graph is compile, and there is no compiler {compiler}: install it, name another in "
            "the environment variable CXX, or choose another graph"
        )
    # use_deterministic_algorithms(True, warn_only=True) does the same, and imports the compiler.
    torch.set_deterministic_debug_mode("warn")
    # Not to fill memory that is about to be overwritten: a launch for each such tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # With warn_only its gradient differs from run to run; the other implementations' does not.
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    # Once the newer fp32_precision is set, reading these raises a RuntimeError (2.13), and
    # PyTorch's compiler reads them.
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def channels_last(batch: Batch) -> Batch:
    """The same batches, the channels of a pixel next to each other in memory."""

    def rearranged(indices: Tensor) -> Tensor:
        return batch(indices).contiguous(memory_format=torch.channels_last)

    return rearranged


def accelerated(update: Update, graph: Graph) -> Step:
    """The same step, recorded where `graph` wants it; batches are of one size then.

    Args:
        update: its model and optimiser being where the run goes on.
        graph: none; cuda-graph, which gives the same to the bit; or compile, for an update that
            is compiled, which is recorded on a GPU.
    """
    on_gpu = next(update.model.parameters()).is_cuda
    return Replayed(update, recorded) if on_gpu and graph != "none" else update


class Replayed:
    """A step on the same memory each time, so that it can be recorded.

    Args:
        update: the step; the optimiser's learning rate is in memory too.
        record: called at the first batch, which is trained on like all others.
    """

    def __init__(self, update: Update, record: Record) -> None:
        self._update = update
        self._record = record
        self._ready: tuple[Tensor, Tensor, Callable[[], None]] | None = None

    def __call__(self, inputs: Tensor, truth: Tensor) -> None:
        """Take the step."""
        if self._ready is None:
            own = inputs.clone(), truth.clone()
            self._ready = (*own, self._record(partial(self._update, *own), self._update))
        memory, memory_of_truth, replay = self._ready
        memory.copy_(inputs)
        memory_of_truth.copy_(truth)
        replay()


def recorded(step: Callable[[], None], update: Update) -> Callable[[], None]:
    """The step as a CUDA graph."""
    device = next(update.model.parameters()).device
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            warm_up(step, update)
        graph = torch.cuda.CUDAGraph()
        # The thread that writes snapshots may use the device meanwhile.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            step()
        torch.cuda.current_stream().wait_stream(stream)
    return graph.replay


def warm_up(step: Callable[[], None], update: Update) -> None:
    """Take some steps, and undo them."""
    with undone(update):
        for _ in range(WARM_UP):
            step()


@contextmanager
def undone(update: Update) -> Iterator[None]:
    """Put back what steps change: weights, statistics, momenta, random numbers; all in place.

    A momentum that was not there is 0 afterwards, from which SGD goes on as from none.
    """
    model, states = update.model, update.optimiser.state
    device = next(model.parameters()).device
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    momenta = {weight: states[weight]["momentum_buffer"].clone() for weight in states}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    model.load_state_dict(tensors)
    for weight, state in states.items():
        momentum = state["momentum_buffer"]
        momentum.copy_(momenta[weight]) if weight in momenta else momentum.zero_()
