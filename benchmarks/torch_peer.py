"""The published network in PyTorch, as a user of PyTorch would train and use it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

BLOCKS = (
    # in, out, kernel, stride in time, pooled (Kim et al. 2018, section 4.1)
    (2, 16, 5, 2, True),
    (16, 32, 3, 1, True),
    (32, 64, 3, 1, True),
    (64, 64, 3, 1, True),
    (64, 128, 3, 1, True),
    (128, 256, 3, 1, False),
    (256, 256, 1, 1, False),
)
N_CLASSES = 50


class Network(nn.Module):
    """One branch and its head: standardised log-mel [batch, 2, frames, mels] to logits or embedding."""

    def __init__(self, head: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, kernel, stride, pooled in BLOCKS:
            layers += [
                nn.Conv2d(inputs, outputs, kernel, stride=(stride, 1), padding=kernel // 2),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            if pooled:
                layers.append(nn.MaxPool2d(2))
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 256), nn.BatchNorm1d(256), nn.ReLU()]
        if head:
            layers += [nn.Dropout(0.5), nn.Linear(256, N_CLASSES)]
        self.layers = nn.Sequential(*layers)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Run all layers."""
        return self.layers(mel)  # type: ignore[no-any-return]


class Mels(nn.Module):
    """Waveform [batch, 2, samples] to decibels [batch, 2, frames, mels], by torchaudio."""

    def __init__(self) -> None:
        super().__init__()
        import torchaudio

        self.mel = torchaudio.transforms.MelSpectrogram(
            22_050, 1024, hop_length=256, n_mels=128, pad_mode="constant", norm="slaney", mel_scale="slaney"
        )
        self.decibel = torchaudio.transforms.AmplitudeToDB("power", top_db=80)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Log-mel."""
        return self.decibel(self.mel(waveform)).transpose(2, 3)


def trainer(options: Mapping[str, Any]) -> Callable[[int], float]:
    """A function that makes training steps and returns their seconds.

    Args:
        options: `batch`; `layout`, `compile`, `mode`, `mels` (front end in the step), `fused`, `bfloat16`.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    _tune(options)
    network = Network(head=True).to(device).train()
    batch = int(options["batch"])
    channels_last = options.get("layout") == "channels_last"
    if options.get("mels"):
        front = Mels().to(device)
        inputs = 0.1 * torch.randn(batch, 2, 55_125, device=device)
    else:
        front = nn.Identity()
        inputs = torch.randn(batch, 2, 216, 128, device=device)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    target = torch.softmax(torch.randn(batch, N_CLASSES, device=device), 1)
    extra = {"fused": True} if options.get("fused") else {}
    adam = torch.optim.Adam(network.parameters(), lr=2.5e-4, weight_decay=1e-6, **extra)
    divergence = nn.KLDivLoss(reduction="batchmean")

    def forward(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, enabled=False):  # mels stay in float32, as kerasrep's do
            mel = front(x)
        if channels_last:
            mel = mel.contiguous(memory_format=torch.channels_last)
        return network(mel)  # type: ignore[no-any-return]

    mode = options.get("mode", "default")
    run = torch.compile(forward, mode=mode) if options.get("compile") else forward

    def measure(steps: int) -> float:
        _wait(device)
        started = time.perf_counter()
        for _ in range(steps):
            adam.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16, enabled=bool(options.get("bfloat16"))):
                logits = run(inputs)
            loss = divergence(torch.log_softmax(logits.float(), 1), target)
            loss.backward()
            adam.step()
        _wait(device)
        return time.perf_counter() - started

    return measure


def embedder(options: Mapping[str, Any]) -> Callable[[int], float]:
    """A function that embeds batches of ready mels and returns the seconds."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    _tune(options)
    network = Network(head=False).to(device).eval()
    inputs = torch.randn(int(options["batch"]), 2, 216, 128, device=device)
    if options.get("fold"):
        network = fuse(network)
    if options.get("layout") == "channels_last":
        network = network.to(memory_format=torch.channels_last)
        inputs = inputs.to(memory_format=torch.channels_last)
    run = torch.compile(network) if options.get("compile") else network

    def measure(steps: int) -> float:
        _wait(device)
        started = time.perf_counter()
        with torch.inference_mode():
            for _ in range(steps):
                run(inputs)
        _wait(device)
        return time.perf_counter() - started

    return measure


def _tune(options: Mapping[str, Any]) -> None:
    if options.get("threads"):
        torch.set_num_threads(int(options["threads"]))
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TensorFlow's default
        torch.backends.cudnn.benchmark = True


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
