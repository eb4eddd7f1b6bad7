"""Every routing against plain loops, against the paper's model where they must agree, and through a save and a load."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skillnet_cli.api import UserError
from skillnet_cli.model import SkillNet
from skillnet_cli.model.build import build_encoder, build_readers
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.encoder import Encoder, FeedForward
from skillnet_cli.model.parts import parameters_by_part, part_of
from skillnet_cli.model.sequences import Segment, join
from skillnet_cli.model.variants import MixtureOfExperts, balanced
from tests.integers import toy_registry
from tests.model.test_skillnet import INPUTS, LENGTHS, toy_batch
from tests.model.variants import VARIANTS, variant

EXACT = {"rtol": 0, "atol": 1e-12}


def slow_mixture(layer: MixtureOfExperts, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs and the balance of GShard, one token, expert and number at a time."""
    experts = range(len(layer.experts))
    outputs, gates, first = [], [], []
    for token in tokens:
        scores = [torch.exp(layer.gate.weight[e] @ token) for e in experts]
        gate = [score / sum(scores) for score in scores]
        one, two = sorted(experts, key=lambda e: -gate[e].item())[:2]
        both = gate[one] + gate[two]
        outputs.append(sum(gate[e] / both * slow_feed_forward(layer.experts[e], token) for e in (one, two)))
        gates.append(gate)
        first.append(one)
    mean = [sum(gate[e] for gate in gates) / len(tokens) for e in experts]
    fraction = [first.count(e) / len(tokens) for e in experts]
    return torch.stack(outputs), len(experts) * sum(m * f for m, f in zip(mean, fraction, strict=True))


def slow_feed_forward(module: Any, token: Tensor) -> Tensor:
    return module.down(module.activation(module.up(token)))


def mixture(experts: int = 5) -> MixtureOfExperts:
    torch.manual_seed(0)
    return MixtureOfExperts((FeedForward(8, 16, torch.tanh) for _ in range(experts)), 8).double()


def gradients(layer: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    layer.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in layer.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("count", [1, 2, 40])
def test_a_mixture_equals_a_loop_over_tokens(count: int) -> None:
    """Outputs, gates, balance loss, and the gradients of all three; the tokens' own gradient too."""
    layer, tokens, weight = mixture(), torch.randn(count, 8).double(), torch.randn(count, 8).double()
    slow_in, fast_in = tokens.clone().requires_grad_(), tokens.clone().requires_grad_()
    slow, slow_balance = slow_mixture(layer, slow_in)
    slow_loss = (slow * weight).sum() + 7 * 0.3 * slow_balance
    expected = gradients(layer, slow_loss)
    fast, usage = layer(fast_in)
    fast_loss, seven = balanced(((fast * weight).sum(), torch.tensor(7)), [usage[None]], 0.3)
    torch.testing.assert_close(fast, slow, **EXACT)
    torch.testing.assert_close(fast_loss, slow_loss, **EXACT)
    found = gradients(layer, fast_loss)
    assert seven == 7
    assert found.keys() == dict(layer.named_parameters()).keys(), "an expert that nobody chose has a gradient of zero"
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected.get(name, torch.zeros_like(gradient)), **EXACT)
    torch.testing.assert_close(fast_in.grad, slow_in.grad, **EXACT)


def test_the_balance_is_of_all_towers_tokens_and_of_the_mean_layer() -> None:
    layers, parts = [mixture(), mixture()], torch.randn(9, 8).double().split((3, 6))
    with torch.no_grad():
        layers[1].gate.weight.mul_(-3)
    usages = [torch.stack([layer(part)[1] for layer in layers]) for part in parts]
    balances = [slow_mixture(layer, torch.cat(parts))[1] for layer in layers]
    total, _ = balanced((torch.tensor(2.0).double(), torch.tensor(3)), usages, 0.5)
    torch.testing.assert_close(total, 2 + 3 * 0.5 * sum(balances) / 2, **EXACT)
    assert balances[0].item() != pytest.approx(balances[1].item())


def test_the_balance_is_part_of_training_alone() -> None:
    light, heavy = variant(routing="moe", balance=0.0), variant(routing="moe", balance=10.0)
    towers, targets = INPUTS["match"]
    with torch.no_grad():
        trained = [float(model("match", towers, targets)[0]) for model in (light, heavy)]
        measured = [float(model.eval()("match", towers, targets)[0]) for model in (light, heavy)]
    assert measured[0] == measured[1] == trained[0]
    assert trained[1] > trained[0] + 10 * 4 * 0.9, "a balance of about 1, times the weight, times the count"


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_dense_encoder_is_a_routed_one_of_one_skill(norm: str) -> None:
    """So the paper describes its dense baseline (§5.1); the dense one takes any skill, and several in a sequence."""
    sizes: dict[str, Any] = {"layers": 2, "hidden": 32, "heads": 4, "ffn": 64, "norm": norm}
    dense = build_encoder(SkillNetConfig(**sizes, routing="dense", skills={"alpha": {}, "beta": {}})).double()
    routed = build_encoder(SkillNetConfig(**sizes, skills={"any": {}})).double()
    for name, tensor in dense.state_dict().items():
        routed.state_dict()[name.replace("attention.qkv", "attention.skills.any")].copy_(tensor)
    segments = [Segment(skill, torch.randn(9, 32).double(), torch.tensor([4, 5])) for skill in ("alpha", "beta")]
    for some in ([segments[1]], segments):
        joined = join(some)
        expected, _ = routed(joined.tokens, joined.lengths, join([Segment("any", *_of(s)) for s in some]).routes)
        torch.testing.assert_close(dense(joined.tokens, joined.lengths, joined.routes)[0], expected, **EXACT)


def _of(segment: Segment) -> tuple[Tensor, Tensor]:
    return segment.tokens, segment.lengths


def own(module: nn.Module, skill: str) -> nn.Module:
    """What a loop calls for a token of that skill."""
    skills = module if isinstance(module, nn.ModuleDict) else getattr(module, "skills", None)
    return module if skills is None else skills[skill]


def slow_encoder(encoder: Encoder, norm: str, items: list[list[tuple[str, Tensor]]]) -> Tensor:
    """Every module on one token at a time, chosen by the token's skill; attention by its definition."""
    done = []
    for item in items:
        skills, tokens = [skill for skill, _ in item], [token for _, token in item]
        for block in encoder.blocks:
            inputs = [own(block.attention_norm, s)(t) for s, t in zip(skills, tokens, strict=True)]
            inputs = inputs if norm == "pre" else tokens
            tokens = [t + a for t, a in zip(tokens, slow_attention(block.attention, skills, inputs), strict=True)]
            if norm == "post":
                tokens = [own(block.attention_norm, s)(t) for s, t in zip(skills, tokens, strict=True)]
            for place, skill in enumerate(skills):
                token, ffn_norm = tokens[place], own(block.ffn_norm, skill)
                passed = slow_feed_forward(own(block.feed_forward, skill), ffn_norm(token) if norm == "pre" else token)
                tokens[place] = token + passed if norm == "pre" else ffn_norm(token + passed)
        final = encoder.final_norm or nn.Identity()
        done += [own(final, s)(t) for s, t in zip(skills, tokens, strict=True)]
    return torch.stack(done)


def slow_attention(attention: Any, skills: list[str], tokens: list[Tensor]) -> list[Tensor]:
    projection = [attention.skills[s] if len(attention.skills) else attention.qkv for s in skills]
    qkv = [p(t).unflatten(0, (3, attention.heads, -1)) for p, t in zip(projection, tokens, strict=True)]
    outputs = []
    for query, _, _ in qkv:
        scores = torch.stack([(query * key).sum(-1) / query.shape[-1] ** 0.5 for _, key, _ in qkv]).softmax(0)
        outputs.append(sum(score[:, None] * value for score, (_, _, value) in zip(scores, qkv, strict=True)).flatten())
    return [own(attention.out, s)(o) for s, o in zip(skills, outputs, strict=True)]


ROUTED = [list(some) for size in (1, 2, 4) for some in combinations(("qkv", "out", "ffn", "norm"), size)]


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("routed", ROUTED, ids="+".join)
def test_routed_modules_equal_a_loop_over_tokens(norm: str, routed: list[str]) -> None:
    """Two segments of different skills in every sequence: each token goes through its own skill's modules."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"layers": 2, "hidden": 16, "heads": 2, "ffn": 32, "norm": norm, "activation": "gelu"}
    config = SkillNetConfig(**sizes, routed=routed, skills={"alpha": {}, "beta": {}, "gamma": {}})
    encoder = build_encoder(config).double()
    for parameter in encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # norms and biases differ between skills, too
    lengths = {"alpha": [3, 1, 4], "beta": [2, 5, 1]}
    segments = [Segment(s, torch.randn(sum(n), 16).double(), torch.tensor(n)) for s, n in lengths.items()]
    joined = join(segments)
    fast, _ = encoder(joined.tokens, joined.lengths, joined.routes)
    skills = [s for a, b in zip(*lengths.values(), strict=True) for s in ["alpha"] * (a - 1) + ["beta"] * b]
    labelled = list(zip(skills, joined.tokens, strict=True))
    items = [labelled[0:4], labelled[4:9], labelled[9:13]]
    torch.testing.assert_close(fast, slow_encoder(encoder, norm, items), rtol=0, atol=1e-10)
    fast.sum().backward()
    assert {part_of(f"encoder.{name}") for name, p in encoder.named_parameters() if p.grad is not None} <= {
        "shared", "skill:alpha", "skill:beta",
    }  # fmt: skip


def test_routed_modules_belong_to_their_skills() -> None:
    layers, hidden, ffn = 2, 32, 64
    parts = parameters_by_part(variant(**VARIANTS["multiway"]))
    width = {"qkv": 3 * hidden * (hidden + 1), "out": hidden * (hidden + 1), "ffn": 2 * hidden * ffn + hidden + ffn}
    assert parts["skill:beta"] == layers * (sum(width.values()) + 4 * hidden) + 2 * hidden
    assert "shared" not in parts
    alone = parameters_by_part(variant(**VARIANTS["shared attention"]))
    assert alone["shared"] == layers * (width["qkv"] + width["out"])


@pytest.mark.parametrize("task", INPUTS)
@pytest.mark.parametrize("name", VARIANTS)
def test_a_task_of_any_variant_touches_its_own_parts_alone(name: str, task: str) -> None:
    model = variant(**VARIANTS[name])
    towers, targets = INPUTS[task]
    total, _ = model(task, towers, targets)
    total.backward()
    touched = {part_of(name) for name, parameter in model.named_parameters() if parameter.grad is not None}
    active = set(model.activated_parts(task))
    assert touched <= active and active & parameters_by_part(model).keys() >= touched
    for name_, parameter in model.named_parameters():
        if part_of(name_) == "shared":
            assert parameter.grad is not None, f"{name_} is shared, so every task uses it"


@pytest.mark.parametrize("name", VARIANTS)
def test_a_saved_variant_answers_the_same(name: str, tmp_path: Path) -> None:
    registry, model = toy_registry(), variant(**VARIANTS[name]).eval()
    model.save(tmp_path / "model", build_readers({"alpha": {}, "beta": {}, "gamma": {}}, registry))
    loaded = SkillNet.from_pretrained(tmp_path / "model", registry=registry)
    assert (loaded.config.routing, list(loaded.config.routed)) == (model.config.routing, list(model.config.routed))
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for task, (towers, targets) in INPUTS.items():
        with torch.no_grad():
            assert torch.equal(loaded(task, towers, targets)[0], model(task, towers, targets)[0]), task


def test_separate_tasks_share_no_storage() -> None:
    model = variant(routing="separate")
    pointers = [tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()]
    assert len(pointers) == len(set(pointers))
    assert {part_of(name) for name in model.state_dict()} == {f"task:{task}" for task in model.config.tasks}
    standard = sum(p.numel() for p in build_encoder(SkillNetConfig(**_sizes(model), skills={"any": {}})).parameters())
    for network in model.tasks.values():
        for tower in network.towers:
            assert sum(p.numel() for p in tower.encoder.parameters()) == standard
    assert [len(model.tasks[task].towers) for task in ("classify", "match", "fill-both")] == [1, 2, 1]


def _sizes(model: SkillNet) -> dict[str, Any]:
    return {key: getattr(model.config, key) for key in ("layers", "hidden", "heads", "ffn", "norm")}


def test_separate_vectors_are_the_tasks_own() -> None:
    model = variant(routing="separate").eval()
    batch = toy_batch(LENGTHS)
    with torch.no_grad():
        before = [model.encode(skill, batch, "match") for skill in ("alpha", "beta")]
        for tower, other in ((0, 1), (1, 0)):
            for parameter in model.tasks["match"].towers[tower].encoder.parameters():
                parameter.mul_(1.1)
            after = [model.encode(skill, batch, "match") for skill in ("alpha", "beta")]
            assert not torch.equal(after[tower], before[tower])
            assert tower == 1 or torch.equal(after[other], before[other])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"routing": "sparse"}, "model.routing = 'sparse': choose one of skill, dense, moe, separate"),
        ({"routed": ["qkv", "fnn"]}, "model.routed = 'fnn': choose one of qkv, out, ffn, norm"),
        ({"routing": "moe", "experts": 1}, "model.routing = 'moe' has an expert for each skill and needs 2; "),
    ],
)
def test_what_no_encoder_can_be_is_one_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        build_encoder(SkillNetConfig(layers=1, hidden=8, heads=2, ffn=8, skills={"alpha": {}}, **keys))
