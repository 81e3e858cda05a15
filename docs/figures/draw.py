#!/usr/bin/env python3
"""Draws the figures of docs/ and fills in their tables, out of what docs/figures/measure.sh measured.

    docs/figures/draw.py          writes docs/figures/*.svg and the tables between the markers of the pages
    docs/figures/draw.py --check  writes nothing; exits 1 if a file is not what it would write

A table stands in a page between <!-- draw.py NAME --> and <!-- end -->. Standard library only. The same data give
the same bytes.
"""

import json
import math
import pathlib
import sys

FIGURES = pathlib.Path(__file__).resolve().parent
DOCS = FIGURES.parent


# ---- data ----


class Run:
    """What one part of measure.sh left behind: its rows, its command, and where it ran."""

    def __init__(self, name):
        self.rows = json.loads((FIGURES / "data" / f"{name}.json").read_text())
        self.command, self.machine = (FIGURES / "data" / f"{name}.txt").read_text().splitlines()

    def points(self, field):
        return [(row["context"], row[field]) for row in self.rows if row.get(field) is not None]

    def last(self):
        return self.rows[-1]


# ---- the sizes of a model, as libs/engine/src/geometry.h and bdh_model.cc have them ----


def round_up(number, multiple):
    return (number + multiple - 1) // multiple * multiple


class Shape:
    LANES, SEGMENT, GRID, ROWS = 16, 2048, 32, 64

    def __init__(self, n_layer, n_embd, n_head, multiplier, vocab_size=256):
        self.layers, self.width, self.vocabulary = n_layer, n_embd, vocab_size
        self.multiplier, self.heads = multiplier, n_head
        self.neurons = n_embd * multiplier
        per_head = self.neurons // n_head
        segments = [min(self.SEGMENT, per_head - at) for at in range(0, per_head, self.SEGMENT)] * n_head
        padded = [round_up(neurons, self.LANES) for neurons in segments]
        self.rows = sum(padded)
        self.keys = sum(neurons + self.LANES for neurons in padded)
        self.masks = sum(round_up(neurons // self.LANES, 32) for neurons in padded)
        self.dense_from = round_up(3 * n_embd // 4, self.GRID)

    def __str__(self):
        return f"L{self.layers} D{self.width} H{self.heads} M{self.multiplier}"

    def parameters(self):
        return 3 * self.neurons * self.width + 2 * self.vocabulary * self.width

    def rho_bytes(self):
        """Of all layers."""
        return self.layers * self.rows * self.width * 4

    def factor_room(self):
        """What one token's factors take in memory, in all layers: room for every neuron."""
        return self.layers * ((self.keys + self.width) * 4 + self.masks * 2)

    def factor_packed(self, pairs):
        """The same packed, as read, and as a snapshot holds it."""
        return self.layers * (self.neurons * (4 * pairs + 0.125) + 4 * self.width)

    def state_bytes(self, tokens):
        """BdhModel::StateBytes but for its few hundred bytes of administration."""
        always, factor = tokens * 12, self.factor_room() / self.layers
        if tokens <= self.dense_from:
            return always + tokens * self.factor_room()
        rho = self.rho_bytes() / self.layers
        most = max((i + 1) * rho + (self.layers - i) * self.dense_from * factor for i in range(self.layers))
        return always + most + (self.layers * self.GRID + 2 * self.ROWS) * factor


def shape_of(row):
    """'L6-D256-H4-M128-V256' -> Shape."""
    return Shape(*(int(part[1:]) for part in row["shape"].split("-")))


def traffic(row):
    """The parts of bytes_per_token, as services/lab/bench.cc adds them up for a batch of one."""
    shape, element = shape_of(row), 4 if row["dtype"] == "f32" else 2
    neurons, grid = shape.layers * shape.neurons, shape.GRID
    pairs, row_bytes = row["density_pair"], shape.width * 4
    # A small vocabulary has what the first layer's neurons make of each token kept.
    known = shape.neurons if shape.vocabulary <= 512 else 0
    computed = (neurons - known) * shape.width * element + known * (row["density_x"] * 4 + 0.125)
    parts = {
        "encoder, lm_head": computed + shape.width * shape.vocabulary * element,
        "gate rows": neurons * row["density_x"] * shape.width * element,
        "decoder rows": neurons * row["density_p"] * shape.width * element,
        "factors": shape.factor_packed(pairs),
        "rho rows": 0.0,
        "fold": 0.0,
    }
    if row["context"] < shape.dense_from:
        parts["factors"] *= row["context"] + 1
    else:
        parts["factors"] *= grid / 2 + 2
        parts["rho rows"] = neurons * pairs * row_bytes
        parts["fold"] = 2 * neurons * (1 - (1 - pairs) ** grid) * row_bytes / grid
    if abs(sum(parts.values()) - row["bytes_per_token"]) > 2:
        raise SystemExit(f"the parts add up to {sum(parts.values()):.0f} bytes a token, bdhctl bench says "
                         f"{row['bytes_per_token']}: draw.py and services/lab/bench.cc differ")
    return parts


# ---- text ----


def number(value):
    """Three figures, no exponent."""
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value)) + 1e-9))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def tick(value):
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def memory(value):
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{value:.0f} B"


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# ---- pictures ----

STYLE = """
  .back { fill: #ffffff } .ink { fill: #1f2328 } .soft { fill: #59636e }
  .grid { stroke: #d1d9e0; stroke-width: 1 } .axis { stroke: #59636e; stroke-width: 1 }
  .s0 { stroke: #0969da } .s1 { stroke: #bc4c00 } .s2 { stroke: #1a7f37 } .s3 { stroke: #8250df }
  .f0 { fill: #0969da } .f1 { fill: #bc4c00 } .f2 { fill: #1a7f37 } .f3 { fill: #8250df }
  .line { fill: none; stroke-width: 2 } .dash { stroke-dasharray: 6 4 }
  .on { fill: #1f2328 }
  text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 12px }
  .title { font-size: 15px; font-weight: 600 } .small { font-size: 11px }
  .code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 10.5px }
  @media (prefers-color-scheme: dark) {
    .back { fill: #0d1117 } .ink { fill: #f0f6fc } .soft { fill: #9198a1 }
    .grid { stroke: #30363d } .axis { stroke: #9198a1 }
    .s0 { stroke: #58a6ff } .s1 { stroke: #f0883e } .s2 { stroke: #3fb950 } .s3 { stroke: #bc8cff }
    .f0 { fill: #58a6ff } .f1 { fill: #f0883e } .f2 { fill: #3fb950 } .f3 { fill: #bc8cff }
  }"""

WIDTH, LEFT, RIGHT, TOP = 760, 72, 24, 84


class Picture:
    def __init__(self, title, height):
        self.height = height
        self.parts = []
        self.title = title
        self.text(LEFT - 48, 26, title, "ink title")

    def add(self, element):
        self.parts.append(element)

    def text(self, x, y, text, style, anchor="start", turn=None):
        turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn is not None else ""
        self.add(f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turned}>{escape(text)}</text>')

    def line(self, x1, y1, x2, y2, style):
        self.add(f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def caption(self, lines):
        y = self.height - 12 - 15 * (len(lines) - 1)
        for line in lines:
            self.text(LEFT - 48, y, line, "soft code")
            y += 15

    def svg(self):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" role="img">\n'
                f"<title>{escape(self.title)}</title>\n<style>{STYLE}\n</style>\n"
                f'<rect class="back" width="{WIDTH}" height="{self.height}"/>\n' + "\n".join(self.parts) + "\n</svg>\n")


def marker(kind, x, y):
    """Each series has a form of its own as well as a colour."""
    fill = f'class="f{kind}"'
    if kind == 0:
        return f'<circle {fill} cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    if kind == 1:
        return f'<rect {fill} x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    if kind == 2:
        return f'<path {fill} d="M{x:.1f} {y - 5:.1f}l5 9h-10z"/>'
    return f'<path {fill} d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z"/>'


class LogLog:
    """Series over two logarithmic axes."""

    def __init__(self, title, x_axis, y_axis, x_ticks, y_ticks, captions, show=number, height=440):
        self.picture = Picture(title, height)
        self.x_range, self.y_range = (x_ticks[0], x_ticks[-1]), (y_ticks[0], y_ticks[-1])
        self.bottom = height - 72 - 15 * (len(captions) - 1)
        self.series = 0
        self.legend_x = LEFT - 48
        for x in x_ticks:
            self.picture.line(self.x(x), TOP, self.x(x), self.bottom, "grid")
            self.picture.text(self.x(x), self.bottom + 17, tick(x), "soft", "middle")
        for y in y_ticks:
            self.picture.line(LEFT, self.y(y), WIDTH - RIGHT, self.y(y), "grid")
            self.picture.text(LEFT - 7, self.y(y) + 4, show(y), "soft", "end")
        self.picture.line(LEFT, self.bottom, WIDTH - RIGHT, self.bottom, "axis")
        self.picture.text((LEFT + WIDTH - RIGHT) / 2, self.bottom + 36, x_axis, "ink", "middle")
        self.picture.text(LEFT - 48, TOP - 12, y_axis, "ink")
        self.picture.caption(captions)

    def x(self, value):
        low, high = map(math.log, self.x_range)
        return LEFT + (math.log(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        low, high = map(math.log, self.y_range)
        return self.bottom - (math.log(value) - low) / (high - low) * (self.bottom - TOP)

    def add(self, name, points, labels=None, marks=True, dash=False, name_width=None):
        """`labels`: None, or which side of its point each value stands on (-1 above, 1 below)."""
        kind, out = self.series, self.picture
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        out.add(f'<polyline class="line s{kind}{" dash" if dash else ""}" points="{path}"/>')
        for x, y in points:
            if marks:
                out.add(marker(kind, self.x(x), self.y(y)))
            if labels is not None:
                where = min(max(self.x(x), LEFT + 16), WIDTH - RIGHT - 16)
                out.text(where, self.y(y) + (18 if labels > 0 else -9), number(y), "ink small", "middle")
        line = "line dash" if dash else "line"
        out.line(self.legend_x, 46, self.legend_x + 24, 46, f"{line} s{kind}")
        if marks:
            out.add(marker(kind, self.legend_x + 12, 46))
        out.text(self.legend_x + 30, 50, name, "ink")
        self.legend_x += 48 + (name_width or 7 * len(name))
        self.series += 1

    def svg(self):
        return self.picture.svg()


def powers(low, high, base):
    """The powers of `base` around [low, high]."""
    first = math.floor(math.log(low, base) + 1e-9)
    last = math.ceil(math.log(high, base) - 1e-9)
    return [float(base) ** i for i in range(first, last + 1)]


def setup(row):
    threads = row["threads"]
    return f"{shape_of(row)}, {threads} thread{'s' if threads > 1 else ''}"


def decode_figure(decode, bf16):
    oracle = [(context, 1e3 / tok_s) for context, tok_s in decode.points("oracle_tok_s")]
    f32, half = decode.points("ms_per_token"), bf16.points("ms_per_token")
    values = [y for points in (oracle, f32, half) for _, y in points]
    contexts = [x for x, _ in f32]
    picture = LogLog(f"Time of one token after a context ({setup(decode.last())})",
                     "tokens of context (logarithmic)", "milliseconds a token (logarithmic)",
                     powers(min(contexts), max(contexts), 4), powers(min(values), max(values), 10),
                     [decode.command, bf16.command, decode.machine])
    picture.add("engine, f32", f32, labels=-1)
    picture.add("the reference's way in LibTorch, f32", oracle, labels=-1)
    picture.add("engine, bf16", half, labels=1)
    return picture.svg()


def prefill_figure(prefill):
    engine, oracle = prefill.points("seconds"), prefill.points("oracle_seconds")
    values = [y for points in (engine, oracle) for _, y in points]
    lengths = [x for x, _ in engine]
    picture = LogLog(f"Reading a prompt at once ({setup(prefill.last())}, f32)",
                     "tokens of the prompt (logarithmic)", "seconds (logarithmic)",
                     powers(min(lengths), max(lengths), 4), powers(min(values), max(values), 10),
                     [prefill.command, prefill.machine], show=tick)
    picture.add("engine, in blocks of 64", engine, labels=1)
    picture.add("one forward pass in LibTorch", oracle, labels=-1)
    return picture.svg()


def state_figure(decode):
    row = decode.last()
    shape, pairs = shape_of(row), row["density_pair"]
    positions = [2.0 ** (i / 4) for i in range(0, 4 * 16 + 1)]
    picture = LogLog(f"What a state takes, by its form ({shape}, {pairs:.0%} of the pairs active)",
                     "tokens (logarithmic)", "bytes (logarithmic)",
                     [4.0 ** i for i in range(9)], [32.0 ** i for i in range(7)],
                     [f"sizes of libs/engine; density_pair of: {decode.command}"], show=memory)
    packed = shape.factor_packed(pairs)
    ids = [(t, 4 * t) for t in positions]
    factors = [(t, t * (4 + packed)) for t in positions if t <= 2048]
    dense = [(t, shape.rho_bytes() + 4 * t + shape.GRID / 2 * packed) for t in positions]
    bound = [(t, shape.state_bytes(t)) for t in positions]
    picture.add("tokens", ids, marks=False)
    picture.add("factors, packed", factors, marks=False)
    picture.add("dense rho and tail", dense, marks=False)
    picture.add("set aside for a session (StateBytes)", bound, marks=False, dash=True)
    x = picture.x(shape.dense_from)
    picture.picture.line(x, TOP, x, picture.bottom, "axis dash")
    picture.picture.text(x - 6, picture.bottom - 10, f"dense_from = {shape.dense_from}", "ink small", "end")
    return picture.svg()


FILLS = {"encoder, lm_head": "#79b8ff", "gate rows": "#ffab70", "decoder rows": "#f692ce", "factors": "#c9d1d9",
         "rho rows": "#85e89d", "fold": "#b392f0"}


def bytes_rows(decode, bf16):
    """Below dense_from and at the longest context, of both types."""
    return [run.rows[i] for run in (decode, bf16) for i in (0, -1)]


def bytes_figure(decode, bf16):
    rows, bar, gap = bytes_rows(decode, bf16), 40, 18
    row = rows[1]
    bottom = TOP + len(rows) * (bar + gap)
    out = Picture(f"Bytes one token must move, by part ({shape_of(row)}, {row['density_x']:.1%} of neurons active)",
                  bottom + 84)
    left, most = LEFT + 64, max(row["bytes_per_token"] for row in rows) / 1e6
    end = 50 * math.ceil(most / 50 + 0.2)
    scale = (WIDTH - RIGHT - left) / end
    for mb in range(0, end + 1, 50):
        out.line(left + mb * scale, TOP - 8, left + mb * scale, bottom - gap + 8, "grid")
        out.text(left + mb * scale, bottom + 8, tick(mb), "soft", "middle")
    out.text((left + WIDTH - RIGHT) / 2, bottom + 27, "MB a token (1 MB = 1,000,000 bytes)", "ink", "middle")
    x = LEFT - 48
    for name, fill in FILLS.items():
        out.add(f'<rect x="{x:.1f}" y="42" width="14" height="14" fill="{fill}"/>')
        out.text(x + 20, 53, name, "ink")
        x += 42 + 7 * len(name)
    for i, row in enumerate(rows):
        y, x = TOP + i * (bar + gap), left
        out.text(left - 8, y + bar / 2 - 3, row["dtype"], "ink", "end")
        out.text(left - 8, y + bar / 2 + 13, f"context {row['context']:,}", "soft small", "end")
        for name, size in traffic(row).items():
            width = size / 1e6 * scale
            out.add(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{bar}" fill="{FILLS[name]}"/>')
            if width > 30:
                out.text(x + width / 2, y + bar / 2 + 4, number(size / 1e6), "on small", "middle")
            x += width
        out.text(x + 6, y + bar / 2 + 4, number(row["bytes_per_token"] / 1e6), "ink")
    out.caption([decode.command, bf16.command])
    return out.svg()


# ---- tables ----


def table(head, rows):
    rows = [[str(cell) for cell in row] for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] +
                     ["| " + " | ".join(row) + " |" for row in rows])


def made_by(*runs):
    commands = "\n".join(f"$ {run.command}" for run in runs)
    return f"```\n{commands}\n```\n\nOn {runs[0].machine}.\n\n"


def decode_table(decode, bf16):
    def cells(row):
        oracle = row["oracle_tok_s"]
        return [row["dtype"], f"{row['context']:,}", number(row["tok_s"]), number(row["ms_per_token"]),
                number(row["bytes_per_token"] / 1e6), number(row["measured_bandwidth_gb_s"]),
                f"{row['roofline_fraction']:.2f}", number(oracle) if oracle else "not asked",
                f"{number(row['ratio'])}x" if oracle else ""]

    return made_by(decode, bf16) + table(
        ["dtype", "context", "tok_s", "ms_per_token", "MB a token", "measured GB/s", "roofline_fraction",
         "oracle_tok_s", "ratio"], [cells(row) for run in (decode, bf16) for row in run.rows])


def prefill_table(prefill):
    return made_by(prefill) + table(
        ["tokens", "seconds", "tok_s", "oracle_seconds", "ratio"],
        [[f"{row['context']:,}", number(row["seconds"]), number(row["tok_s"]), number(row["oracle_seconds"]),
          f"{number(row['ratio'])}x"] for row in prefill.rows])


def bytes_table(decode, bf16):
    rows = bytes_rows(decode, bf16)
    parts = [traffic(row) for row in rows]
    lines = [[name] + [number(part[name] / 1e6) for part in parts] for name in FILLS]
    lines.append(["together"] + [number(row["bytes_per_token"] / 1e6) for row in rows])
    return made_by(decode, bf16) + table(
        ["MB a token"] + [f"{row['dtype']}, context {row['context']:,}" for row in rows], lines)


def density_table(decode, text, other, noise):
    quickstart = f"the quickstart's, {shape_of(noise.last())}"
    rows = [("random weights that lean, default shape", "random bytes", decode.last()),
            (quickstart, "a chapter of what it was trained on", text.last()),
            (quickstart, "this project's README.md", other.last()),
            (quickstart, "random bytes", noise.last())]
    return made_by(decode, text, other, noise) + table(
        ["model", "fed with", "density_x", "density_pair", "if neurons were independent", "density_p",
         "loss, nats a byte"],
        [[name, fed, f"{row['density_x']:.3f}", f"{row['density_pair']:.3f}",
          f"{1 - (1 - row['density_x']) ** 2:.3f}", f"{row['density_p']:.3f}",
          f"{row['loss']:.2f}" if "loss" in row else ""] for name, fed, row in rows])


SHAPES = [
    ("`configs/quickstart.yaml`", Shape(2, 128, 4, 16)),
    ("default, the reference's", Shape(6, 256, 4, 128)),
    ("the paper's 25M", Shape(8, 256, 4, 128)),
    ("twice as wide", Shape(6, 512, 4, 128)),
    ("the paper's 100M", Shape(8, 256, 4, 512)),
    ("the paper's 800M", Shape(8, 256, 4, 4096)),
]


def memory_table(decode):
    pairs = decode.last()["density_pair"]
    return (f"Vocabulary 256; `density_pair` {pairs:.3f} as in `{decode.command}`.\n\n") + table(
        ["shape", "", "parameters", "weights f32", "weights bf16", "rho, all layers", "factors of one token",
         "factors smaller below", "dense_from", "set aside for a session of 4,096 tokens"],
        [[str(shape), name, f"{number(shape.parameters() / 1e6)}M", memory(4 * shape.parameters()),
          memory(2 * shape.parameters()), memory(shape.rho_bytes()), memory(shape.factor_packed(pairs)),
          f"{shape.rho_bytes() / shape.factor_packed(pairs):,.0f} tokens", shape.dense_from,
          memory(shape.state_bytes(4096))] for name, shape in SHAPES])


# ---- pages ----


def fill(text, name, content):
    begin, end = f"<!-- draw.py {name} -->", "<!-- end -->"
    start = text.index(begin) + len(begin)
    return f"{text[:start]}\n{content}\n{text[text.index(end, start):]}"


def outputs():
    decode, bf16, prefill = Run("decode"), Run("decode_bf16"), Run("prefill")
    trained = [Run("trained_text"), Run("trained_other"), Run("trained_noise")]
    files = {
        FIGURES / "decode.svg": decode_figure(decode, bf16),
        FIGURES / "bytes.svg": bytes_figure(decode, bf16),
        FIGURES / "state.svg": state_figure(decode),
        FIGURES / "prefill.svg": prefill_figure(prefill),
    }
    tables = {
        "architecture/attention.md": {"memory": memory_table(decode)},
        "architecture/sparse_activations.md": {"bytes": bytes_table(decode, bf16),
                                               "density": density_table(decode, *trained)},
        "inference/optimization.md": {"decode": decode_table(decode, bf16), "prefill": prefill_table(prefill)},
    }
    for page, contents in tables.items():
        text = (DOCS / page).read_text()
        for name, content in contents.items():
            text = fill(text, name, content)
        files[DOCS / page] = text
    return files


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        raise SystemExit(f"draw.py: {' '.join(sys.argv[1:])} is not understood; want nothing or --check")
    stale = []
    for path, text in outputs().items():
        if path.exists() and path.read_bytes() == text.encode():
            continue
        stale.append(str(path.relative_to(DOCS.parent)))
        if not check:
            path.write_text(text)
    for path in stale:
        print(f"{path}: {'differs from what docs/figures/draw.py makes of docs/figures/data' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
