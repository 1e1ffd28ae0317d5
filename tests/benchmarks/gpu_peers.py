"""PyTorch with cuDNN on a GPU: the peer that gpu.py measures, in one kernel call after another or as one CUDA graph.

Each function makes what is then called over and over. PyTorch is imported where it is used: it need not be there.
"""

from itertools import cycle

import numpy as np
from contenders import Torch


def pytorch():
    """PyTorch, with a GPU.

    Raises:
        ImportError: it is not installed, or finds no GPU.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError("PyTorch is not installed") from error
    if not torch.cuda.is_available():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        raise ImportError(f"PyTorch {torch.__version__}, built {built}, finds no GPU")
    return torch


def training_steps(torch, shape, x, y, batch, device="cuda", graph=False):
    """The model of contenders.py: each call is a step on the next batch, and gives its loss, on the device."""
    fast = {"fused": True, "capturable": True} if device == "cuda" else {}
    model = Torch(shape, device, **fast)
    x, y = torch.from_numpy(x.astype(np.int64)).to(device), torch.from_numpy(y.astype(np.float32)).to(device)
    batch_x, batch_y = x[:batch].clone(), y[:batch].clone()
    batches = cycle(torch.arange(len(x) // batch * batch, device=device).split(batch))

    def update():
        model.optimizer.zero_grad(set_to_none=True)
        loss = model.loss(model.forward(batch_x), batch_y)
        loss.backward()
        model.optimizer.step()
        return loss.detach()

    compute = graphed(torch, update) if graph else update

    def step():
        which = next(batches)
        torch.index_select(x, 0, which, out=batch_x)
        torch.index_select(y, 0, which, out=batch_y)
        return compute()

    step.model = model
    return step


def layer_passes(torch, x, dy, units, device="cuda", graph=False, tf32=True):
    """nn.LSTM forward and backward, all gradients; x (B, T, E) and dy (B, T, H) are turned to cuDNN's (T, B, ...)."""
    x, dy = (torch.from_numpy(np.ascontiguousarray(a.swapaxes(0, 1))).to(device) for a in (x, dy))
    lstm = torch.nn.LSTM(x.shape[2], units).to(device)
    x.requires_grad_()
    inputs = [x, *lstm.parameters()]

    def both_ways():
        return torch.autograd.grad(lstm(x)[0], inputs, dy)

    def in_float32():
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return both_ways()

    run = both_ways if tf32 else in_float32
    run = graphed(torch, run) if graph else run
    run.lstm = lstm
    return run


def graphed(torch, run):
    """`run` recorded as one CUDA graph, as PyTorch's documentation has it."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()

    def replay():
        graph.replay()
        return result

    return replay


def launches(step):
    """What the GPU is given to do in one step, counted by PyTorch's profiler, which sees CuPy's kernels, too.

    Returns:
        How many kernels, and how many copies and fillings of memory.
    """
    torch = pytorch()
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    names = [event.name for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    copies = sum(name.startswith(("Memcpy", "Memset")) for name in names)
    return {"kernels": len(names) - copies, "copies and fillings": copies}


def peak_memory(make_step):
    """Bytes that PyTorch took from the GPU for three steps, as a rule more than it filled."""
    torch = pytorch()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    step = make_step()
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_reserved() - before
