"""The published network in Keras, against a NumPy twin and, where PyTorch is installed, a PyTorch twin."""

import itertools
import re

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from kerasrep import constants
from kerasrep.errors import DataError
from kerasrep.model.reference import from_state_dict

BRANCH_POINTS = (None, 2, 4, 6, "fc")
PUBLISHED = ("self_", "bpm", "year", "taste", "tag", "lyrics", "cdr_tag", "artist")
STRATEGIES = {None: "mss-cr", 2: "ms-cr@2", 4: "ms-cr@4", 6: "ms-cr@6", "fc": "ms-sr@fc"}
N_SHARED = {None: 0, 2: 1, 4: 3, 6: 5, "fc": 7}

# The network as the key table and PyTorch's documentation describe it, written out by hand.
# (in, out, kernel, stride in time, pooled)
BLOCKS = (
    (2, 16, 5, 2, True),
    (16, 32, 3, 1, True),
    (32, 64, 3, 1, True),
    (64, 64, 3, 1, True),
    (64, 128, 3, 1, True),
    (128, 256, 3, 1, False),
    (256, 256, 1, 1, False),
)


def random_state(tasks, branch_at, seed=0, n_outs=50):
    """A state dict of random weights and random running statistics under the published names."""
    rng = np.random.default_rng(seed)
    state = {}

    def weights(key, *shape):
        fan_in = np.prod(shape[1:])
        state[f"{key}.weight"] = rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
        state[f"{key}.bias"] = rng.normal(0, 0.1, shape[:1]).astype(np.float32)

    def batch_norm(key, size):
        state[f"{key}.weight"] = rng.uniform(0.5, 1.5, size).astype(np.float32)
        state[f"{key}.bias"] = rng.normal(0, 0.3, size).astype(np.float32)
        state[f"{key}.running_mean"] = rng.normal(0, 0.3, size).astype(np.float32)
        state[f"{key}.running_var"] = rng.uniform(0.3, 2, size).astype(np.float32)
        state[f"{key}.num_batches_tracked"] = np.array(1000, np.int64)

    def part(key, blocks, with_fc):
        for position, (inputs, outputs, kernel, _, _) in enumerate(blocks):
            weights(f"{key}.{position}.conv", outputs, inputs, kernel, kernel)
            batch_norm(f"{key}.{position}.bn", outputs)
        if with_fc:
            weights(f"{key}.{len(blocks) + 1}", 256, 256)
            batch_norm(f"{key}.{len(blocks) + 2}", 256)

    n_shared = N_SHARED[branch_at]
    part("shared", BLOCKS[:n_shared], branch_at == "fc")
    for t, task in enumerate(tasks):
        if branch_at != "fc":
            part(f"branches_feature.{t}", BLOCKS[n_shared:], True)
        if task == "self_":
            weights(f"branches_infer.{t}.0", 128, 512)
            batch_norm(f"branches_infer.{t}.1", 128)
            weights(f"branches_infer.{t}.4", 2, 128)
        else:
            weights(f"branches_infer.{t}.0", n_outs, 256)
    return state


def mels(batch=2, seed=0):
    """Standardised mel: [batch, frames, bands, channels]."""
    return np.random.default_rng(seed).normal(0, 1, (batch, 216, 128, 2)).astype(np.float32)


class NumpyTwin:
    """The published network in inference, in float64, from its formulas."""

    def __init__(self, state, tasks, branch_at):
        self.state = {key: value.astype(np.float64) for key, value in state.items()}
        self.tasks, self.n_shared, self.fc = list(tasks), N_SHARED[branch_at], branch_at == "fc"

    def batch_norm(self, key, x):
        weight, bias, mean, variance = (
            self.state[f"{key}.{name}"].reshape(-1, *[1] * (x.ndim - 1))
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias

    def block(self, key, x, geometry):
        """One example [channels, time, mel]."""
        _, _, kernel, stride, pooled = geometry
        half = kernel // 2
        x = np.pad(x, ((0, 0), (half, half), (half, half)))
        # Cross-correlation: every window [channels, kernel, kernel] times every filter, summed.
        windows = sliding_window_view(x, (kernel, kernel), axis=(1, 2))[:, ::stride]
        x = np.tensordot(self.state[f"{key}.conv.weight"], windows, axes=([1, 2, 3], [0, 3, 4]))
        x = x + self.state[f"{key}.conv.bias"][:, None, None]
        x = np.maximum(self.batch_norm(f"{key}.bn", x), 0)
        if pooled:
            channels, time, mel = x.shape
            x = x[:, : time // 2 * 2, : mel // 2 * 2].reshape(channels, time // 2, 2, mel // 2, 2).max((2, 4))
        return x

    def dense(self, key, x):
        return self.state[f"{key}.weight"] @ x + self.state[f"{key}.bias"]

    def embedding(self, key, position, x):
        x = self.dense(f"{key}.{position}", x.mean((1, 2)))
        return np.maximum(self.batch_norm(f"{key}.{position + 1}", x), 0)

    def shared(self, x):
        for i in range(self.n_shared):
            x = self.block(f"shared.{i}", x, BLOCKS[i])
        return self.embedding("shared", 8, x) if self.fc else x

    def branch(self, task, x):
        if self.fc:
            return x
        key = f"branches_feature.{self.tasks.index(task)}"
        for j, geometry in enumerate(BLOCKS[self.n_shared :]):
            x = self.block(f"{key}.{j}", x, geometry)
        return self.embedding(key, 8 - self.n_shared, x)

    def features(self, mel):
        """Task -> [batch, 256]."""
        shared = [self.shared(example.transpose(2, 0, 1).astype(np.float64)) for example in mel]
        return {task: np.stack([self.branch(task, x) for x in shared]) for task in self.tasks}

    def logits(self, task, *embeddings):
        key, x = f"branches_infer.{self.tasks.index(task)}", np.concatenate(embeddings)
        if task == "self_":
            x = np.maximum(self.batch_norm(f"{key}.1", self.dense(f"{key}.0", x)), 0)
            return self.dense(f"{key}.4", x)
        return self.dense(f"{key}.0", x)


def ours(task):
    return "self" if task == "self_" else task


@pytest.mark.parametrize(
    ("branch_at", "tasks"),
    [
        (None, ("tag", "self_")),
        (2, ("self_", "bpm")),
        (4, ("year", "self_")),
        (6, PUBLISHED),
        ("fc", ("lyrics", "self_", "artist")),
        (4, ("taste",)),
        ("fc", ("self_",)),
    ],
)
def test_embeddings_and_logits_are_those_of_the_formulas(branch_at, tasks):
    state = random_state(tasks, branch_at, seed=1)
    reference, twin, mel = (
        from_state_dict(state, tasks, branch_at),
        NumpyTwin(state, tasks, branch_at),
        mels(2),
    )
    expected = twin.features(mel)
    found = {name: value.numpy() for name, value in reference.trunk(mel).items()}
    assert list(found) == [ours(task) for task in tasks]
    assert reference.network.strategy == (STRATEGIES[branch_at] if len(tasks) > 1 else "ss-r")
    for task in tasks:
        assert found[ours(task)].shape == (2, 256)
        assert expected[task].std() > 0.05
        np.testing.assert_allclose(found[ours(task)], expected[task], atol=1e-4, rtol=0)
        if task == "self_":
            logits = reference.heads["self_"]([mel[:1], mel[1:]]).numpy()[0]
            wanted = twin.logits(task, *expected[task])
        else:
            logits, wanted = reference.heads[task](mel).numpy()[1], twin.logits(task, expected[task][1])
        np.testing.assert_allclose(logits, wanted, atol=1e-4, rtol=0)


def test_padding_reaches_the_embedding():
    """A loud frame at either end alone: paddings that differ at the ends cannot pass for each other."""
    state = random_state(("tag",), None, seed=2)
    mel = np.zeros((2, 216, 128, 2), np.float32)
    mel[0, 0], mel[1, 215] = 8, 8
    found = from_state_dict(state, ("tag",), None).trunk(mel)["tag"].numpy()
    np.testing.assert_allclose(
        found, NumpyTwin(state, ("tag",), None).features(mel)["tag"], atol=1e-4, rtol=0
    )
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_all_heads_at_once_give_what_each_gives_alone():
    tasks = ("tag", "self_", "year")
    heads = from_state_dict(random_state(tasks, 4), tasks, 4).heads
    left, right = mels(3, seed=1), mels(3, seed=2)
    assert list(heads) == ["tag", "self", "year"]
    of_one, of_pair = heads(left), heads([left, right])
    assert list(of_one) == ["tag", "year"]
    assert list(of_pair) == ["tag", "self", "year"]
    for source in ("tag", "year"):
        np.testing.assert_allclose(of_one[source], heads[source](left), atol=1e-5)
        np.testing.assert_allclose(of_pair[source], of_one[source], atol=1e-6)
    np.testing.assert_allclose(of_pair["self"], heads["self"]([left, right]), atol=1e-5)
    assert np.abs(of_pair["self"].numpy() - heads["self"]([right, left]).numpy()).max() > 1e-3


@pytest.mark.parametrize("branch_at", ["null", "2", "fc"])
def test_branch_points_are_read_as_the_published_code_spells_them(branch_at):
    point = {"null": None, "2": 2}.get(branch_at, branch_at)
    network = from_state_dict(random_state(("bpm", "tag"), point), ("bpm", "tag"), branch_at).network
    assert network.strategy == {None: "mss-cr", 2: "ms-cr@2", "fc": "ms-sr@fc"}[point]


def test_heads_of_another_size_than_the_papers_are_taken_as_they_are():
    state = random_state(("tag", "self_"), 2, n_outs=20)
    heads = from_state_dict(state, ("tag", "self_"), 2).heads
    assert (heads["tag"].output_shape, heads["self"].output_shape) == ((None, 20), (None, 2))
    wrong = refused(state, ("tag", "self_"), 2, n_outs=50)
    assert "key 'branches_infer.0.0.weight' is [20, 256], expected [50, 256]" in wrong


def test_checkpoints_from_before_batches_were_counted_are_read():
    state = {k: v for k, v in random_state(("tag",), None).items() if not k.endswith("tracked")}
    assert from_state_dict(state, ("tag",), None).trunk(mels(1))["tag"].shape == (1, 256)


def refused(state, *arguments, **options):
    with pytest.raises(DataError) as caught:
        from_state_dict(state, *arguments, **options)
    message = str(caught.value)
    assert message.startswith("state_dict: ")
    assert "\n" not in message
    return message


def test_any_array_that_is_missing_or_misshapen_is_named_with_its_shape():
    tasks = ("self_", "tag")
    state = random_state(tasks, 6)
    for key, value in state.items():
        shape = re.escape(str(list(value.shape)))
        rest = {k: v for k, v in state.items() if k != key}
        assert re.search(f"key '{re.escape(key)}', {shape}, is missing", refused(rest, tasks, 6))
        wrong = refused(state | {key: np.zeros((*value.shape, 2), np.float32)}, tasks, 6)
        assert re.search(f"key '{re.escape(key)}' is .*, expected {shape}", wrong)


def test_a_transposed_kernel_is_told_from_the_right_one():
    state = random_state(("tag",), None)
    key = "branches_feature.0.0.conv.weight"
    wrong = refused(state | {key: state[key].transpose(2, 3, 1, 0)}, ("tag",), None)
    assert f"key '{key}' is [5, 5, 2, 16], expected [16, 2, 5, 5]" in wrong


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("key", ["shared.0.conv.weight", "branches_feature.1.6.running_var"])
def test_what_float32_cannot_hold_as_a_number_is_refused(key, value):
    state = random_state(("year", "tag"), 4)
    array = state[key].astype(np.float64)
    array.reshape(-1)[3] = value
    wrong = refused(state | {key: array}, ("year", "tag"), 4)
    assert f"key '{key}' holds NaN or infinite values, expected finite floats {list(array.shape)}" in wrong


def test_variances_below_zero_and_arrays_of_other_things_are_refused():
    state = random_state(("tag",), 2)
    variance = state["shared.0.bn.running_var"] - 1
    assert "negative variance" in refused(state | {"shared.0.bn.running_var": variance}, ("tag",), 2)
    for other in (np.zeros(16, np.int32), np.full(16, "x"), np.full(16, None, object)):
        assert "'shared.0.bn.bias' holds" in refused(state | {"shared.0.bn.bias": other}, ("tag",), 2)
    ragged = refused(state | {"shared.0.bn.bias": [[1.0], [2.0, 3.0]]}, ("tag",), 2)
    assert "'shared.0.bn.bias' is not a plain array" in ragged


def test_an_unknown_array_is_named():
    state = random_state(("tag",), None) | {"module.extra": np.zeros(3, np.float32)}
    assert "key 'module.extra' is unknown" in refused(state, ("tag",), None)


@pytest.mark.parametrize(
    ("sources", "branch_at", "words"),
    [
        ((), None, "one to eight"),
        (("tag", "tag"), None, "each once"),
        (("self", "self_"), None, "each once"),
        (("genre",), None, "unknown source 'genre'"),
        (("tag",), 3, "branch_at is 3; expected null, 2, 4, 6 or fc"),
        (("tag",), "mss-cr", "branch_at is 'mss-cr'"),
        (("tag",), [2], "branch_at is"),
        (("tag",), 2, "key 'shared.0.conv.weight', [16, 2, 5, 5], is missing"),
        (("tag", "year"), None, "key 'branches_feature.1.0.conv.weight', [16, 2, 5, 5], is missing"),
    ],
)
def test_sources_and_branch_points_that_do_not_fit_are_refused(sources, branch_at, words):
    assert words in refused(random_state(("tag",), None), sources, branch_at)


def test_parameter_counts_are_the_published_ones():
    state = random_state(PUBLISHED, 4)
    network = from_state_dict(state, PUBLISHED, 4).network
    weights = [key for key in state if key.endswith(("weight", "bias"))]
    assert sum(network.parameters().values()) == sum(state[key].size for key in weights) == 4_495_952
    assert network.sources == constants.SOURCES


def torch_twin(tasks, branch_at, n_outs=50):
    """The published network as PyTorch modules, so that PyTorch itself makes the names."""
    torch = pytest.importorskip("torch")
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs, outputs, kernel, stride, pooled):
            super().__init__()
            self.conv = nn.Conv2d(inputs, outputs, kernel, (stride, 1), kernel // 2)
            self.bn = nn.BatchNorm2d(outputs)
            self.pool = nn.MaxPool2d(2) if pooled else nn.Identity()

        def forward(self, x):
            return self.pool(torch.relu(self.bn(self.conv(x))))

    class Pool(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    def fc():
        return [Pool(), nn.Linear(256, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout()]

    def head(task):
        if task != "self_":
            return nn.Sequential(nn.Linear(256, n_outs))
        hidden = [nn.Linear(512, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout()]
        return nn.Sequential(*hidden, nn.Linear(128, 2))

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            blocks, n = [Block(*geometry) for geometry in BLOCKS], N_SHARED[branch_at]
            self.shared = nn.Sequential(*blocks[:n], *(fc() if branch_at == "fc" else []))
            self.branches_feature = nn.ModuleList(
                nn.Sequential(*([] if branch_at == "fc" else [*(Block(*g) for g in BLOCKS[n:]), *fc()]))
                for _ in tasks
            )
            self.branches_infer = nn.ModuleList(head(task) for task in tasks)

        def feature(self, x, task):
            return self.branches_feature[tasks.index(task)](self.shared(x))

        def forward(self, x, task):
            if task != "self_":
                return self.branches_infer[tasks.index(task)](self.feature(x, task))
            left, right = (self.feature(side, task) for side in x)
            return self.branches_infer[tasks.index(task)](torch.cat([left, right], -1))

    return Twin().eval()


def difference_from_torch(tasks, branch_at, seed):
    """Largest difference of embeddings and logits from PyTorch's on random weights."""
    twin = torch_twin(tasks, branch_at)
    import torch  # after the check that it is there

    state = random_state(tasks, branch_at, seed)
    twin.load_state_dict(
        {key: torch.from_numpy(np.array(value)) for key, value in state.items()}, strict=True
    )
    reference = from_state_dict(state, tasks, branch_at)
    mel, other = mels(2, seed), mels(2, seed + 1)
    inputs = [torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))) for x in (mel, other)]
    embeddings, logits = reference.trunk(mel), reference.heads([mel, other])
    differences = []
    with torch.no_grad():
        for task in tasks:
            feature = twin.feature(inputs[0], task).numpy()
            of_task = twin(inputs if task == "self_" else inputs[0], task).numpy()
            assert feature.std() > 0.05
            differences.append(np.abs(embeddings[ours(task)].numpy() - feature).max())
            differences.append(np.abs(logits[ours(task)].numpy() - of_task).max())
    return max(differences)


def test_the_key_table_is_that_of_pytorchs_modules():
    for branch_at, tasks in itertools.product(BRANCH_POINTS, (("tag",), ("tag", "self_", "bpm"))):
        twin = torch_twin(tasks, branch_at).state_dict()
        state = random_state(tasks, branch_at)
        assert {k: tuple(v.shape) for k, v in twin.items()} == {k: v.shape for k, v in state.items()}


@pytest.mark.parametrize("branch_at", BRANCH_POINTS)
def test_embeddings_and_logits_are_those_of_pytorch(branch_at):
    assert difference_from_torch(("tag", "self_"), branch_at, seed=3) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("branch_at", BRANCH_POINTS)
@pytest.mark.parametrize("n_sources", range(1, 9))
def test_embeddings_and_logits_are_those_of_pytorch_for_any_number_of_sources(branch_at, n_sources):
    tasks = tuple(np.random.default_rng(n_sources).permutation(PUBLISHED)[:n_sources].tolist())
    found = difference_from_torch(tasks, branch_at, seed=n_sources)
    print(f"branch_at {branch_at}, {n_sources} sources: {found:.2e}")
    assert found < 1e-4
