"""Write the figures of committed runs into the pages: ``python docs/fill_figures.py``.

Between ``<!-- figures: NAME -->`` and ``<!-- end -->`` a page holds what the function of that name makes of
``docs/figures/*.json`` and of the shipped bundle's report. A test holds the pages to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    "README.md",
    "docs/calibration.md",
    "docs/contacts.md",
    "docs/demon.md",
    "docs/method.md",
    "docs/method-denoisers.md",
    "docs/method-wgan.md",
    "docs/real-recordings.md",
    "docs/site.md",
)
BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n)(.*?)(<!-- end -->)", re.S)

Row = Mapping[str, Any]

HEAD = (
    "| | OT@RN86 | OT@RN95 | OT@RN99 | removed noise | overwritten tones | regions | line F1 |\n"
    "|---|---|---|---|---|---|---|---|"
)


@cache
def run(name: str) -> dict[str, Any]:
    """A committed run."""
    found: dict[str, Any] = json.loads((ROOT / "docs" / "figures" / f"{name}.json").read_text())
    return found


@cache
def report() -> dict[str, Any]:
    """What calibration said of the shipped bundle."""
    found: dict[str, Any] = json.loads((ROOT / "models/bundles/simulated/report/report.json").read_text())
    return found


def cell(row: Row, key: str, digits: int = 1) -> str:
    """A figure with its standard error, or a dash."""
    value, error = row.get(key), row.get(f"{key}_se")
    if value is None:
        return "-"
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def line(name: str, row: Row, point: str = "conformal_95") -> str:
    """One row of the tables headed by `HEAD`."""
    at, free = row.get(point) or row.get("mask") or {}, row.get("threshold_free") or {}
    cells = [cell(free, f"ot_at_rn_{q}") for q in (86, 95, 99)]
    cells += [cell(at, "removed_noise"), cell(at, "overwritten_tones"), cell(at, "intersecting_regions", 2)]
    return f"| {name} | " + " | ".join([*cells, cell(at, "line_f1")]) + " |"


def table1() -> str:
    """The paper's rows beside the paper's figures, and ours."""
    t = run("table1")
    out = [
        f"`tonald experiments table1 --fresh-seed {t['fresh_seed']} --windows {t['n_windows']}` (SIMULATED, "
        f"{t['n_windows']} windows of {t['n_recordings']} recordings; the paper's figures are on other data):",
        "",
        "| the paper's rows, made here | removed noise % | paper | overwritten tones % | paper | regions | paper "
        "| line F1 % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in t["paper"].values():
        p = row["published"]
        out.append(
            f"| {row['name']} | {cell(row, 'removed_noise')} | {p['removed_noise']:.0f} "
            f"| {cell(row, 'overwritten_tones')} | {p['overwritten_tones']:.0f} "
            f"| {cell(row, 'intersecting_regions', 2)} | {p['intersecting_regions']} | {cell(row, 'line_f1')} |"
        )
    out += [
        "",
        "At thresholds set without truth, nominal 95 % (OT@RN: overwritten tones where 86, 95, 99 % of the noise is "
        "removed, free of thresholds):",
        "",
        HEAD,
        line("**mode `signature`, live**", t["signature"]),
        line("mode `vessel`", t["vessel_here"]),
    ]
    out += [line(f"the paper's map, {row['name']}", row) for row in t["overlays"].values()]
    return "\n".join(out)


def peers() -> str:
    """All peers on the same windows."""
    p = run("peers")
    methods = p["methods"]
    out = [
        f"`tonald experiments peers --fresh-seed {p['fresh_seed']} --windows {p['n_windows']}`; each peer is given "
        "what helps it (a source-free clip, training without truth), all have their threshold from the same "
        "source-free windows:",
        "",
        HEAD,
    ]
    for key, row in methods.items():
        if key not in ("oracle", "everything"):
            out.append(
                f"| {row['name']} | failed: {row['error']} |||||||" if "error" in row else line(row["name"], row)
            )
    rivals = ("tpsw_9", "hpss_mask", "noise2self", "noisereduce_clip_05")
    told = []
    for q in (86, 95):
        key = f"ot_at_rn_{q}"
        best = min((methods[r] for r in rivals), key=lambda m: m["threshold_free"][key])
        told.append(
            f"at RN {q} the best of TPSW, HPSS, Noise2Self and noisereduce overwrites "
            f"{best['threshold_free'][key]:.1f} % ({best['name']}), mode `signature` "
            f"{methods['signature']['threshold_free'][key]:.2f} %"
        )
    return "\n".join([*out, "", f"In short: {'; '.join(told)}."])


def hard() -> str:
    """Weak lines, two ships, wide classes."""
    low, two, wide = run("low_snr"), run("two_ships"), run("table1")["wide"]

    def other(row: Row) -> str:
        return f"{row['conformal_95']['other_removed']:.1f}"

    return "\n".join([
        f"At nominal 95 %, fresh seed {low['fresh_seed']}, {low['n_windows']} windows each; `tonald experiments table1 "
        "--scenario low_snr` (0 to 6 dB in-bin), `--scenario two_ships --asked true` (the second ship at -2 dB), and "
        "the end of `table1` itself (classes vary by ±15 % and ±6 %; templates learned in the run, no network):",
        "",
        HEAD,
        line("0 to 6 dB: mode `signature`", low["signature"]),
        line("0 to 6 dB: the paper's map, average", low["overlays"]["average"]),
        line("two ships: mode `signature`", two["signature"]),
        line("two ships: the paper's map, average", two["overlays"]["average"]),
        line("wide: mode `vessel`", wide["vessel"]),
        line("wide: mode `signature`, templates alone", wide["signature"]),
        line("wide: masks of one who knows", wide["reference"]["oracle"], "mask"),
        "",
        f"With two ships, of the other ship's tones {other(two['signature'])} % are removed (the paper's map: "
        f"{other(two['overlays']['average'])} %). At 0 to 6 dB the daemon named {low['named_rightly']:.0f} % of the "
        f"windows rightly, where classes vary widely templates alone named {wide['named_rightly']:.0f} %; a window not "
        "named counts as all tones overwritten in mode `signature`.",
    ])  # fmt: skip


def parts() -> str:
    """What each part is worth."""
    t = run("table1")
    free = {k: t["ours"][k]["threshold_free"]["ot_at_rn_95"] for k in ("student", "signature_full")}
    return "\n".join([
        "Same windows as Table I, nominal 95 %:",
        "",
        HEAD,
        line("mode `signature`, live (student)", t["signature"]),
        *(line(row["name"], row) for row in t["ours"].values()),
        "",
        f"Student alone against the full explanation: OT@RN95 {free['student']:.1f} against "
        f"{free['signature_full']:.1f} %.",
    ])  # fmt: skip


#: Shown of `tonald experiments unknowns`, best first.
SCORES = {
    "lines + doubt + distance": "**lines + doubt + distance** (ours)",
    "lines alone": "lines alone",
    "principal residual": "principal residual",
    "Gaussians, full covariance": "Gaussians, full covariance",
    "max softmax": "max softmax",
    "nearest representative": "nearest representative (the rule before)",
    "energy": "energy",
}


def unknown() -> str:
    """How well strangers are told from what is known."""
    u = run("unknowns")
    out = [
        f"`tonald experiments unknowns --fresh-seed {u['fresh_seed']}` (SIMULATED, {u['n_windows']['strangers']} "
        "windows of each kind): vessels of classes no network saw\n(`strangers`: four fixed line tables; `anew`: a new "
        "table per recording) against known vessels and source-free sea.",
        "",
        "| score | AUROC, strangers | AUROC, anew | FPR95 %, strangers |",
        "|---|---|---|---|",
    ]
    for key, name in SCORES.items():
        all_of, anew = (u["methods"][key][f"known_ambient_vs_{k}"] for k in ("strangers", "strangers_anew"))
        out.append(f"| {name} | {cell(all_of, 'auroc', 3)} | {cell(anew, 'auroc', 3)} | {cell(all_of, 'fpr95')} |")
    ours = u["methods"]["lines + doubt + distance"]["conformal"]
    best = max(m["conformal"]["strangers"] for k, m in u["methods"].items() if "lines" not in k)
    here = report()["evaluation"]["unknown"]
    return "\n".join([
        *out,
        "",
        "With the bundle's kind of limits (2 % of known windows lost in calibration; here "
        f"{cell(ours, 'known')} % of known and\n{cell(ours, 'ambient')} % of source-free windows) ours finds "
        f"{cell(ours, 'strangers')} % of the strangers' windows and {cell(ours, 'strangers_anew')} % of\nthose anew; "
        f"the best of the others {best:.0f} %. On board a class with clear evidence of its lines stands against a "
        "rejection, unless\nmore lines than usual stay unexplained: of the shipped bundle's test windows "
        f"{here['rejected_strange']:.1f} % of strangers are `unknown`,\n{here['named_strange']:.1f} % are named as a "
        f"class, the rest ambient; of known vessels {here['rejected_known']:.1f} % and of source-free windows\n"
        f"{here['rejected_ambient']:.1f} % are `unknown`.",
    ])  # fmt: skip


def cost() -> str:
    """What each stage costs."""
    m = run("modes")
    out = [
        f"`tonald bench modes` (ONNX Runtime, 2 cores, one window with a detection per call; ratios paired by round, "
        f"k = {m.get('k', 16)}):",
        "",
        "| | ms | times the plain fused graph |",
        "|---|---|---|",
    ]
    out += [f"| {r['what'].strip()} | {r['ms']:.2f} | {r['ratio']:.2f} |" for r in m["rows"]]
    return "\n".join(out)


def demon() -> str:
    """Shaft rates: simulated, of noise, of labelled recordings."""
    d = run("demon")
    noise, real = d["noise"], d["real"]
    out = [
        f"`tonald experiments demon --fresh-seed {d['fresh_seed']} --data ../shared/data`; SIMULATED propellers of "
        "random rate, blades and heights of the harmonics,",
        f"62 s each, {d['simulated'][0]['n']} per row:",
        "",
        "| modulation depth | hiss over sea, dB | found % | rate right % | a multiple or part of it % | blades right % |",
        "|---|---|---|---|---|---|",
    ]
    out += [
        f"| {r['depth']:.1f} | {r['snr_db']:.0f} | {cell(r, 'found')} | {cell(r, 'right')} | {cell(r, 'multiple')} "
        f"| {cell(r, 'blades')} |"
        for r in d["simulated"]
    ]
    out += [
        "",
        f"In {noise['n']} minutes of noise without a propeller {noise['found']:.0f} % were found; the highest evidence "
        f"was {noise['highest_score']:.1f} nats (12 are asked for).",
        "",
        "Real recordings whose modulation was labelled clear by hand, the parts of one recording joined:",
        "",
        "| recording | s | label, Hz / blades | found | evidence, nats | |",
        "|---|---|---|---|---|---|",
    ]
    for r in real["rows"]:
        if r["clear"] and r["label_hz"]:
            words = "right" if r["right"] else f"{r['shaft_hz'] / r['label_hz']:.2f} of the label"
            out.append(
                f"| {Path(r['recording']).stem} | {r['seconds']:.0f} | {r['label_hz']:.3f} / {r['label_blades']} "
                f"| {r['shaft_hz']:.3f} / {r['blades']} | {r['score']:.0f} | {words} |"
            )
    out += [
        "",
        f"**{real['right']:.0f} % of these {real['n_clear']} are right** within 2 % or half a resolution, "
        f"{real['right_or_multiple']:.0f} % right or a simple multiple or part, blades {real['blades']:.0f} %.",
        f"Of {real['n_without_vessel']} recordings without a listed vessel {real['found_without_vessel']:.0f} % were "
        "found to be modulated as by a propeller.",
    ]
    return "\n".join(out)


def with_interval(f: Row, key: str, sign: str = "") -> str:
    """A figure with its 95 % interval."""
    low, high = f[f"{key}_95"]
    return f"{f[key]:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def vessels() -> str:
    """Vessel or not, by splits."""
    d = run("vessels")
    n_vessels, n_sea = len(d["groups"]["vessel"]), len(d["groups"]["ambient"])
    out = [
        f"`tonald experiments vessels --data ../shared/data`: {d['n_vessel_windows']} windows of {n_vessels} vessels at "
        f"{len(d['sites']['vessel'])} sites, {d['n_windows'] - d['n_vessel_windows']} of {n_sea} ambient sessions\nat "
        f"{len(d['sites']['ambient'])} other sites; per cent, with 95 % intervals over vessels and sessions drawn anew.",
        "",
        "| judge | windows split | area under the curve | balanced accuracy | area against `spectra` | accuracy against it |",
        "|---|---|---|---|---|---|",
    ]
    for judge, splits in d["judges"].items():
        for split, f in splits.items():
            rival = d["better_than_baseline"].get(judge, {}).get(split)
            cells = [with_interval(f, k) for k in ("auc", "balanced_accuracy")]
            cells += [with_interval(rival, k, "+") if rival else "" for k in ("auc", "balanced_accuracy")]
            out.append(f"| `{judge}` | {split} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def pairs() -> str:
    """Balanced accuracy of each pair of sites."""
    d = run("vessels")
    judges = list(d["judges"])
    out = ["| sites never heard | " + " | ".join(f"`{j}`" for j in judges) + " |", "|---" * (len(judges) + 1) + "|"]
    for k, (vessel, sea) in enumerate(d["pairs"]):
        cells = [f"{d['judges'][j]['by site']['balanced_accuracy_of_folds'][k]:.0f}" for j in judges]
        out.append(f"| {vessel}, {sea} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def negatives() -> str:
    """The same with other folders for ambient."""
    splits = ("random", "by vessel", "by site")
    out = ["| ambient | judge | " + " | ".join(splits) + " |", "|---|---|---|---|---|"]
    for row in run("vessels")["other_negatives"]:
        cells = [f"{row[s]['auc']:.0f} / {row[s]['balanced_accuracy']:.0f}" for s in splits[:2]]
        cells.append(f"{with_interval(row['by site'], 'auc')} / {with_interval(row['by site'], 'balanced_accuracy')}")
        out.append(f"| {row['ambient']} | {row['judge']} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def folders() -> str:
    """Lines and calls by folder."""
    d = run("vessels")
    out = [
        f"Bundle {d['bundle']['bundle']}, its windows {d['bundle']['seconds']:.1f} s long; the others 5 s.",
        "",
        "| folder | windows | sessions or vessels | coherent lines | tones | lines in families | `mixed`: a vessel, % "
        "| `simulated`: a vessel, % | bundle: windows | named a vessel it knows, % | unknown, % |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, f in d["folders"].items():
        heard, called = d["bundle"]["folders"][name], f["called_vessel"]
        out.append(
            f"| {name} | {f['n_windows']} | {f['n_groups']} | {f['coherent']:.1f} | {f['tones']:.1f} "
            f"| {f['in_families']:.1f} | {called['mixed']:.0f} | {called['simulated']:.0f} "
            f"| {heard['n_windows']} | {heard['named']:.0f} | {heard['unknown']:.0f} |"
        )
    return "\n".join(out)


def denoisers() -> str:
    """Denoisers that learn."""
    d = run("denoisers")
    out = [
        f"`tonald experiments denoisers --fresh-seed {d['fresh_seed']} --windows {d['n_windows']}` (SIMULATED):",
        "",
        HEAD,
    ]
    for key, row in d["methods"].items():
        if key not in ("oracle", "everything"):
            out.append(
                f"| {row['name']} | failed: {row['error']} |||||||" if "error" in row else line(row["name"], row)
            )
    return "\n".join(out)


def networks() -> str:
    """The paper's network, representatives, epochs."""
    d = run("networks")
    out = [
        f"`tonald experiments networks --fresh-seed {d['fresh_seed']} --windows {d['n_windows']} --figures docs/images` "
        "(SIMULATED; the paper's map: image CAM and class mask averaged):",
        "",
        "| network | seed | named rightly % | OT@RN86 | OT@RN95 | OT@RN99 | tone AUC |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in d["networks"].values():
        for r in row["seeds"]:
            free = r["threshold_free"]
            cells = " | ".join(cell(free, f"ot_at_rn_{q}") for q in (86, 95, 99))
            out.append(f"| {row['name']} | {r['seed']} | {r['accuracy']:.1f} | {cells} | {cell(free, 'tone_auc', 3)} |")
    out += ["", "| representatives of a class | OT@RN86 | OT@RN95 | tone AUC |", "|---|---|---|---|"]
    for name, r in d["representatives"].items():
        out.append(f"| {name} | {cell(r, 'ot_at_rn_86')} | {cell(r, 'ot_at_rn_95')} | {cell(r, 'tone_auc', 3)} |")
    out += [
        "",
        "| auto-encoder centroids, epochs | noise removed % at cut 0.75 | overwritten % | OT@RN86 |",
        "|---|---|---|---|",
    ]
    for n, r in d["autoencoder"].items():
        cut = r["cut_75"]
        cells = (cell(cut, "removed_noise"), cell(cut, "overwritten_tones"), cell(r["threshold_free"], "ot_at_rn_86"))
        out.append(f"| {n} | {' | '.join(cells)} |")
    return "\n".join(out)


#: Two-sided 97.5 % point of Student's t, by degrees of freedom.
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365}


def wgan() -> str:
    """Whether generated windows help, seed by seed in pairs."""
    cells = run("wgan_wide")["cells"]
    out = [
        "| real windows per label | method | seeds | accuracy % | difference to `none`, 95 % interval | KID | tonal | precision "
        "| recall | density | coverage | copied % |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for n in ("20", "50", "100"):
        for method in ("none", "remix", "modern", "text"):
            own = {k.split("/")[2]: c for k, c in cells.items() if k.startswith(f"{n}/{method}/")}
            if not own:
                continue
            told = ""
            if method != "none":
                apart = [c["accuracy"] - cells[f"{n}/none/{s}"]["accuracy"] for s, c in own.items()]
                mean = sum(apart) / len(apart)
                spread = (sum((a - mean) ** 2 for a in apart) / max(len(apart) - 1, 1)) ** 0.5
                reach = STUDENT[len(apart) - 1] * spread / len(apart) ** 0.5 if len(apart) > 1 else float("nan")
                told = f"{mean:+.1f} [{mean - reach:+.1f}, {mean + reach:+.1f}]"

            def mean_of(key: str, digits: int, own: dict[str, Any] = own) -> str:
                values = [c[key] for c in own.values() if key in c]
                return f"{sum(values) / len(values):.{digits}f}" if values else ""

            keys = (("kid", 1), ("tonal_rows", 1), ("precision", 2), ("recall", 2), ("density", 2), ("coverage", 2))
            figures = " | ".join(mean_of(k, digits) for k, digits in (*keys, ("copied", 0)))
            out.append(f"| {n} | `{method}` | {len(own)} | {mean_of('accuracy', 1)} | {told} | {figures} |")
    return "\n".join(out)


def alarms() -> str:
    """Contact starts asked for and measured."""
    d = run("falsealarms")
    first = d["settings"][0]
    out = [
        f"`tonald experiments falsealarms --hours {first['hours']:.0f} --fresh-seed {d['fresh_seed']} --data FOLDER` on the "
        f"shipped bundle `{d['bundle']}`",
        f"(simulated sea, {first['n_recordings']} fresh recordings of 10 min; its curve comes from 20 h of other seeds). All "
        "figures: `docs/figures/falsealarms.json`.",
        "",
        "| asked for, per day | expected in 10 h | started | per day, 95 % Poisson | ± standard error over recordings "
        "| strange vessels found | real ambient: starts | mains hum: starts |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for s in d["settings"]:
        low, high = s["interval_95_per_day"]
        labels = ", ".join(f"{k} {n}" for k, n in s["by_label"].items())
        real = [f"{s[k]['n_starts']} in {60 * s[k]['hours']:.1f} min" for k in ("real_ambient", "real_hum")]
        out.append(
            f"| {s['false_alarms_per_day']:g}{' (extrapolated)' if s['extrapolated'] else ''} | {s['n_expected']:.0f} "
            f"| {s['n_starts']}{f' ({labels})' if labels else ''} | {low:.0f}…{high:.0f} | {s['per_day']:.0f} ± "
            f"{s['per_day_se']:.0f} | {s['ships']['strangers']['found']:.0f} % | {real[0]} | {real[1]} |"
        )
    known = [v for s in d["settings"] for k, v in s["ships"].items() if k != "strangers"]
    out += [
        "",
        f"Vessels of the four known classes (2 to 14 dB) started their contact in {min(v['found'] for v in known):.0f} % of "
        f"the recordings of a minute, after {max(v['median_s'] for v in known):.0f} s\n(median), at every setting; under "
        f"another name in {max(v['misnamed'] for v in known):.0f} %. Starts come in clusters: their variance between "
        f"recordings is {first['dispersion']:.0f} times the mean\nat the first setting.",
    ]
    return "\n".join(out)


def coverage() -> str:
    """Thresholds of a site: what calibrations remove and what they say of themselves."""
    d = run("conformal")
    out = [
        f"`tonald experiments conformal --fresh-seed {d['fresh_seed']} --data ../shared/data`; all figures in per cent of "
        "source-free cells removed, from",
        f"[figures/conformal.json](figures/conformal.json), bundle `{d['bundle']}`. Simulated sea first.",
        "",
        "| windows | nominal | removed ± SE | 5 … 95 % of calibrations | interval holds |",
        "|---|---|---|---|---|",
    ]
    for n, levels in d["coverage"].items():
        for q, c in levels.items():
            out.append(
                f"| {n} | {100 * float(q):.0f} | {c['removed']:.2f} ± {c['se']:.2f} | {c['low']:.2f} … {c['high']:.2f} "
                f"| {c['stated_interval_holds']:.0f} |"
            )
    return "\n".join(out)


def sites() -> str:
    """Other places: thresholds of the bundle and of the place."""
    d = run("conformal")
    out = ["| site | nominal | by the bundle's ± SE | by the site's ± SE |", "|---|---|---|---|"]
    for name, row in {**d["sites"], "real ambient": d["real"]["real ambient"]}.items():
        for q in ("0.86", "0.95", "0.99"):
            cells = [
                f"{row[q][k]:.2f} ± {row[q][k + '_se']:.2f} ({row[q][k + '_least']:.2f})" for k in ("bundle", "site")
            ]
            out.append(f"| {name} | {100 * float(q):.0f} | {cells[0]} | {cells[1]} |")
    return "\n".join(out)


def readme() -> str:
    """Three lines of the first page."""
    r = report()["evaluation"]
    at, free = r["signature"]["conformal_95"], r["signature"]["threshold_free"]
    return (
        f"On simulated test seeds (synthetic): {r['accuracy']:.2f} % of windows named rightly; at the calibrated "
        f"threshold {at['removed_noise']:.1f} % of the noise\nand {at['overwritten_tones']:.1f} % of the ship's own "
        f"tone cells removed, {at['intersecting_regions']:.2f} lines of other classes left; free of any threshold, "
        f"{free['ot_at_rn_86']:.1f} % of tone cells lost\nwhere 86 % of the noise is removed (the paper reports 8 %), "
        f"{free['ot_at_rn_95']:.1f} % at 95 % (59)."
    )


def bundle() -> str:
    """The shipped bundle's own table."""
    r = report()["evaluation"]
    out = [
        "| threshold | removed noise % | overwritten tones % | intersecting | line Pd % | line F1 % |",
        "|---|---|---|---|---|---|",
    ]
    for key in ("conformal_86", "conformal_95", "conformal_99", "cut_65", "cut_75", "cut_85"):
        row, digits = r["signature"][key], key[-2:]
        name = f"conformal 0.{digits}" if key.startswith("conformal") else f"fixed 0.{digits}"
        out.append(
            f"| {name} | {row['removed_noise']:.1f} | {cell(row, 'overwritten_tones')} "
            f"| {row['intersecting_regions']:.2f} | {row['line_pd']:.0f} | {row['line_f1']:.0f} ± "
            f"{row['line_f1_se']:.0f} |"
        )
    free, vessel = r["signature"]["threshold_free"], r["vessel"]["conformal_95"]
    out += [
        "",
        f"Windows named rightly: {r['accuracy']:.2f} ± {r['accuracy_se']:.1f} % of {r['n_windows']} windows of "
        f"{r['n_recordings']} recordings. Threshold-free: overwritten tones "
        + " / ".join(f"{free[f'ot_at_rn_{q}']:.1f}" for q in (86, 95, 99))
        + f" % at 86 / 95 / 99 %\nnoise removed. Mode `vessel` at 0.95: {vessel['removed_noise']:.1f} % removed, "
        f"{cell(vessel, 'overwritten_tones')} % overwritten.",
    ]
    return "\n".join(out)


BLOCKS: Mapping[str, Callable[[], str]] = {
    f.__name__: f
    for f in (
        table1,
        peers,
        hard,
        parts,
        unknown,
        cost,
        alarms,
        coverage,
        sites,
        vessels,
        pairs,
        negatives,
        folders,
        demon,
        readme,
        bundle,
        denoisers,
        networks,
        wgan,
    )
}


def filled(text: str) -> str:
    """A page with every block made anew."""
    return BLOCK.sub(lambda m: f"{m[1]}{BLOCKS[m[2]]()}\n{m[4]}", text)


def main() -> None:
    """Write all pages."""
    for name in PAGES:
        path = ROOT / name
        path.write_text(filled(path.read_text()))


if __name__ == "__main__":
    main()
