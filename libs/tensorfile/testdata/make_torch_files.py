#!/usr/bin/env python3
"""Makes the .pt files of this folder with PyTorch (1.13.1 made those that are here).

Weights of a BDH with n_layer 3, n_embd 4, n_head 2, mlp_internal_dim_multiplier 4 (8 neurons a head) and
vocab_size 10, in the reference's names and shapes. Element i of a tensor is (i * 7 % 31 - 15) / 64, which every
float type holds exactly; so tests know them without reading them anywhere else.
"""
import collections
import math
import sys

import torch


def numbers(*shape):
    count = math.prod(shape)
    return ((torch.arange(count) * 7 % 31 - 15) / 64).reshape(shape)


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        exponent = torch.floor(torch.arange(8, dtype=torch.float32) / 2) * 2 / 8
        self.register_buffer("freqs", (1.0 / (2.0**16) ** exponent / (2 * math.pi)).view(1, 1, 1, 8))


class BDH(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.decoder = torch.nn.Parameter(numbers(16, 4))
        self.encoder = torch.nn.Parameter(numbers(2, 4, 8))
        self.attn = Attention()
        self.embed = torch.nn.Embedding(10, 4)
        self.embed.weight.data = numbers(10, 4)
        self.encoder_v = torch.nn.Parameter(numbers(2, 4, 8))
        self.lm_head = torch.nn.Parameter(numbers(4, 10))


CONFIG = dict(n_layer=3, n_embd=4, n_head=2, mlp_internal_dim_multiplier=4, vocab_size=10, dropout=0.1)


def training_checkpoint(model):
    """As a training script saves: compiled, in a wrapper, beside its optimiser."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.lm_head.sum().backward()
    optimizer.step()
    model.load_state_dict(BDH().state_dict())
    weights = {"_orig_mod.module." + name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
    weights["_orig_mod.module.attn.freqs"] = model.attn.freqs
    weights["_orig_mod.module.lm_gate"] = numbers(4, 10)
    return {
        "model_state_dict": weights,
        "optimizer": optimizer.state_dict(),
        "config": CONFIG,
        "step": 1234,
        "val_loss": 1.5,
        "device": torch.device("cpu"),
    }


def main(folder):
    model = BDH()
    save = lambda name, what, **more: torch.save(what, f"{folder}/{name}", **more)
    save("state_dict.pt", model.state_dict())
    save("training.pt", training_checkpoint(model))
    # Views: rows the other way round in memory, and all weights of one type in one storage.
    turned = collections.OrderedDict((n, t.detach().half()) for n, t in model.state_dict().items())
    turned["attn.freqs"] = model.attn.freqs
    turned["decoder"] = numbers(16, 4).t().contiguous().t().double()
    shared = torch.cat([torch.zeros(3), numbers(2, 4, 8).flatten(), torch.ones(5)])
    turned["encoder"] = turned["encoder_v"] = shared[3:67].view(2, 4, 8)
    save("views.pth", {"state_dict": turned}, pickle_protocol=4)
    save("old_format.pt", model.state_dict(), _use_new_zipfile_serialization=False)
    save("whole_module.pt", model)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else ".")
