"""A page of bars (SVG) from the JSON of a run: for each peer and place, how many times as fast each figure is."""

import html
import json
import math

from figures import FIGURES
from report import all_ratios

WORDS = {
    "write": "sequential write", "read": "sequential read, cold", "randread": "4 KiB random read", "randread4": "the same, 4 jobs",
    "randwrite": "4 KiB random write", "randwrite_fsync": "the same + fsync", "untar": "untar a kernel", "md5": "md5sum of it",
    "ls": "ls -lR", "find": "find", "rm": "rm -rf", "md5_cold": "md5sum, cold", "ls_cold": "ls -lR, cold", "find_cold": "find, cold", "clone": "git clone", "restic": "restic backup", "cargo": "cargo build",
    "pgbench": "pgbench", "mean": "geometric mean of 11",
}
LABEL, BARS, VALUE, GAP, LINE, HEAD = 158, 240, 46, 26, 17, 34
BETTER, WORSE, MEAN = "#2a78b8", "#d98032", "#14466e"


def draw(source, target):
    """Writes the page `target` from the run `source`."""
    run = json.loads(source.read_text())
    systems = run["systems"]
    # Plain files are no peer: nothing is encrypted, and no process is asked.
    systems = {name: about for name, about in systems.items() if about["kind"] != "Plain"}
    compared = {place: all_ratios(samples, systems) for place, samples in run["samples"].items()}
    rows = list(dict.fromkeys(names for found in compared.values() for names in found))
    if not rows:
        raise SystemExit(f"{source}: envelopefs is held against nobody in it")
    every = [math.log2(value) for found in compared.values() for values in found.values() for value in values.values()]
    # One axis for all, logarithmic: twice and half as fast are equally long, and panels can be held against each other.
    below, above = max(0.15, 0.15 - min(every)), max(1.0, *every)
    width = max(2, len(compared)) * (LABEL + BARS + VALUE + GAP) + GAP
    parts, top = [], 62
    machine = run["machine"]
    _text(parts, GAP, 26, "How many times as fast envelopefs is", size=17, weight="bold")
    _text(parts, GAP, 46, f"medians of {machine['rounds']} rounds; {machine['cpus']} processors, Linux {machine['kernel']}; "
          f"file of {machine['file_mib']} MiB; {machine['tree']}", size=11, fill="#555")
    for names in rows:
        lines = max(len(found.get(names, {})) for found in compared.values())
        for column, (place, found) in enumerate(compared.items()):
            if values := found.get(names):
                kind = machine["places"].get(place, "")
                left = GAP + column * (LABEL + BARS + VALUE + GAP)
                _panel(parts, left, top, f"{names}, {place}" + (f" ({kind})" if kind != place else ""), values, below, above)
        top += HEAD + lines * LINE + GAP
    page = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}" font-family="sans-serif">\n' \
           f'<rect width="{width}" height="{top}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    target.write_text(page)


def _panel(parts, left, top, title, values, below, above):
    """One peer in one place; the axis reaches from 2^-below to 2^above."""
    _text(parts, left, top + 12, title, size=13, weight="bold")
    scale = BARS / (above + below)
    one = left + LABEL + below * scale
    bottom = top + HEAD + len(values) * LINE
    step = 1 if above + below < 5 else 2
    for power in range(-math.floor(below), math.floor(above) + 1):
        if power % step == 0:
            at = one + power * scale
            parts.append(f'<path d="M{at:.1f} {top + HEAD - 6}V{bottom}" stroke="{"#444" if power == 0 else "#ddd"}"/>')
            _text(parts, at, top + HEAD - 9, f"{2.0 ** power:g}×", size=9, fill="#777", anchor="middle")
    order = [figure for figure in [*FIGURES, "mean"] if figure in values]
    for number, figure in enumerate(order):
        value, line = values[figure], top + HEAD + number * LINE
        length = math.log2(value) * scale
        colour = MEAN if figure == "mean" else BETTER if value >= 1 else WORSE
        weight = "bold" if figure == "mean" else "normal"
        _text(parts, left + LABEL - 8, line + 12, WORDS[figure], size=11, anchor="end", weight=weight)
        parts.append(f'<rect x="{min(one, one + length):.1f}" y="{line + 2}" width="{max(abs(length), 1):.1f}" height="{LINE - 4}" fill="{colour}"/>')
        _text(parts, max(one, one + length) + 4, line + 12, f"{value:.2f}", size=10, fill="#333", weight=weight)


def _text(parts, x, y, words, size, fill="#111", anchor="start", weight="normal"):
    parts.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}" font-weight="{weight}">'
                 f"{html.escape(words)}</text>")
