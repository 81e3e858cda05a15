#!/usr/bin/env python3
"""How sparse a model is on a text: the reference's forward pass in plain Python, counting what is not zero.

    docs/figures/density.py MODEL TEXT [TOKENS]    prints JSON, a row a layer and one for all of them
    docs/figures/density.py --bench-file MODEL     writes a file for bdhctl bench --weights to standard output

MODEL is a directory that `bdhctl model export` wrote, with fp32 weights and bytes for tokens; TEXT a file; TOKENS 512
unless given. It takes seconds for a model of two layers and shares no code with bdh, so the loss that it prints is a
check of both. For large models it is far too slow.
"""

import array
import json
import math
import pathlib
import struct
import sys


def read_file(folder):
    data = (pathlib.Path(folder) / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + size]), data[8 + size:]


def read_config(folder):
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    names = ["n_layer", "n_embd", "n_head", "mlp_internal_dim_multiplier", "vocab_size"]
    return {name: config[name] for name in names}


def write_bench_file(folder):
    header, payload = read_file(folder)
    header["__metadata__"] = {"config": json.dumps(read_config(folder))}
    text = json.dumps(header).encode()
    sys.stdout.buffer.write(struct.pack("<Q", len(text)) + text + payload)


def rows_of(header, payload, name, width):
    """A tensor as rows of `width` numbers."""
    begin, end = header[name]["data_offsets"]
    values = array.array("f", payload[begin:end])
    return [values[at:at + width].tolist() for at in range(0, len(values), width)]


def norm(x):
    mean = sum(x) / len(x)
    scale = 1 / math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + 1e-5)
    return [(v - mean) * scale for v in x]


def add_scaled(y, scale, x):
    return [a + scale * b for a, b in zip(y, x)]


class Model:
    def __init__(self, folder):
        header, payload = read_file(folder)
        config = read_config(folder)
        self.layers, self.width, self.heads = config["n_layer"], config["n_embd"], config["n_head"]
        self.per_head = self.width * config["mlp_internal_dim_multiplier"] // self.heads
        self.embedding = rows_of(header, payload, "embed.weight", self.width)
        self.decoder = rows_of(header, payload, "decoder", self.width)
        self.lm_head = list(zip(*rows_of(header, payload, "lm_head", config["vocab_size"])))
        self.frequencies = rows_of(header, payload, "attn.freqs", self.per_head)[0]
        self.encoder = self.by_neuron(rows_of(header, payload, "encoder", self.per_head))
        self.gate = self.by_neuron(rows_of(header, payload, "encoder_v", self.per_head))

    def by_neuron(self, rows):
        """[head][n_embd][neuron] -> [head][neuron] of n_embd."""
        return [list(zip(*rows[head * self.width:(head + 1) * self.width])) for head in range(self.heads)]

    def key(self, active, position):
        """The turned pairs that are not both zero: neuron -> number."""
        key = {}
        for i in range(0, self.per_head, 2):
            a, b = active[i], active[i + 1]
            if a == 0 and b == 0:
                continue
            angle = 2 * math.pi * math.fmod(position * self.frequencies[i], 1)
            cosine, sine = math.cos(angle), math.sin(angle)
            key[i], key[i + 1] = a * cosine - b * sine, b * cosine + a * sine
        return key

    def step(self, token, past, counts):
        """One token: its logits. `past[layer][head]` is a list of (key, x)."""
        position = len(past[0][0])
        x = norm(self.embedding[token])
        for layer in range(self.layers):
            written = [0.0] * self.width
            for head in range(self.heads):
                active = [max(0.0, sum(map(float.__mul__, x, row))) for row in self.encoder[head]]
                key = self.key(active, position)
                read = [0.0] * self.width
                for other, value in past[layer][head]:
                    score = sum(v * other[i] for i, v in key.items() if i in other)
                    read = add_scaled(read, score, value)
                read = norm(read)
                past[layer][head].append((key, x))
                for i, a in enumerate(active):
                    if a == 0:
                        continue
                    counts[layer][0] += 1
                    gate = sum(map(float.__mul__, read, self.gate[head][i]))
                    if gate > 0:
                        counts[layer][2] += 1
                        written = add_scaled(written, a * gate, self.decoder[head * self.per_head + i])
                counts[layer][1] += len(key)
            x = norm(add_scaled(x, 1, norm(written)))
        return [sum(map(float.__mul__, x, column)) for column in self.lm_head]


def measure(folder, text, tokens):
    model = Model(folder)
    data = pathlib.Path(text).read_bytes()[:tokens]
    past = [[[] for _ in range(model.heads)] for _ in range(model.layers)]
    counts = [[0, 0, 0] for _ in range(model.layers)]
    loss = 0.0
    for token, following in zip(data, data[1:]):
        logits = model.step(token, past, counts)
        most = max(logits)
        loss += most + math.log(sum(math.exp(v - most) for v in logits)) - logits[following]
    steps = len(data) - 1
    neurons = steps * model.heads * model.per_head
    each = [dict(zip(("density_x", "density_pair", "density_p"), (c / neurons for c in layer))) for layer in counts]
    rows = [{"layer": layer + 1, **densities} for layer, densities in enumerate(each)]
    rows.append({"layer": None, **{name: sum(row[name] for row in each) / len(each) for name in each[0]},
                 "tokens": steps, "loss": loss / steps})
    return rows


def main():
    arguments = sys.argv[1:]
    if len(arguments) == 2 and arguments[0] == "--bench-file":
        write_bench_file(arguments[1])
    elif len(arguments) in (2, 3):
        tokens = int(arguments[2]) if len(arguments) == 3 else 512
        print(json.dumps(measure(arguments[0], arguments[1], tokens), indent=2))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
