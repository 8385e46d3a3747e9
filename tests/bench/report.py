"""What came out: medians, ratios, tables."""

import math
import statistics

from figures import CPU_UNIT, ELEVEN, FIGURES


def medians(samples):
    """figure -> median, of one filesystem in one place."""
    return {figure: statistics.median(values) for figure, values in samples.items() if values}


def ratio(figure, mine, theirs):
    """How many times as good `mine` is."""
    return mine / theirs if FIGURES[figure][1] else theirs / mine


def ratios(mine, theirs):
    """figure -> ratio of two filesystems' medians; `mean` is the geometric one, where all eleven figures are there."""
    found = {figure: ratio(figure, mine[figure], theirs[figure]) for figure in FIGURES if mine.get(figure) and theirs.get(figure)}
    if all(figure in found for figure in ELEVEN):
        found["mean"] = math.exp(statistics.fmean(math.log(found[figure]) for figure in ELEVEN))
    return found


def pairs(systems):
    """Who is held against whom: envelopefs against all, each other build of it against the passthrough with its options."""
    found = []
    for mine, about in systems.items():
        if about["kind"] != "Envelopefs":
            continue
        for theirs, other in systems.items():
            twin = other["kind"] == "Passthrough"
            if other["kind"] == "Envelopefs" or (mine != "envelopefs" and not twin) or (twin and other["options"] != about["options"]):
                continue
            found.append((mine, theirs))
    return found


def all_ratios(samples, systems):
    """'MINE : THEIRS' -> ratios, in one place."""
    middle = {name: medians(of) for name, of in samples.items()}
    found = {f"{mine} : {theirs}": ratios(middle.get(mine, {}), middle.get(theirs, {})) for mine, theirs in pairs(systems)}
    return {names: values for names, values in found.items() if values}


def tables(samples, cpu, systems):
    """Markdown: the medians of one place, the ratios, and the processor time."""
    wanted = [f for f in FIGURES if any(of.get(f) for of in samples.values())]
    head = "| | " + " | ".join(f"{FIGURES[f][2]} {FIGURES[f][0]}" for f in wanted) + " | mean |\n" + "|---" * (len(wanted) + 2) + "|\n"
    text = head
    for name, of in samples.items():
        middle = medians(of)
        text += _row(name, [shown(middle[f]) if f in middle else "–" for f in wanted] + [""])
    compared = all_ratios(samples, systems)
    for names, values in compared.items():
        text += _row(names, [f"{values[f]:.2f}×" if f in values else "–" for f in [*wanted, "mean"]])
    text += "\nProcessor time: of the daemon / of the whole machine\n\n"
    text += "| | " + " | ".join(f"{FIGURES[f][2]} {CPU_UNIT[f]}" for f in wanted) + " |\n" + "|---" * (len(wanted) + 1) + "|\n"
    for name, of in cpu.items():
        text += _row(name, [_cpu(of.get(f)) for f in wanted])
    return text


def _cpu(samples):
    if not samples:
        return "–"
    middle = lambda key: [s[key] for s in samples if s[key] is not None]
    return " / ".join(shown(statistics.median(values)) if values else "–" for values in (middle("daemon"), middle("machine")))


def _row(name, cells):
    return f"| {name} | " + " | ".join(cells) + " |\n"


def shown(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
