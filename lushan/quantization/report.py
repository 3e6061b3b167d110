"""The report of a quantisation: one HTML page that needs nothing else, in English or Chinese."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lushan.quantization.comparison import Comparison, ValueComparison

TEXTS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "title": "{model} in int8",
        "made": "Weights are int8 with a scale per output channel, activations uint8 with a scale "
        "and a zero point per tensor, chosen by “{method}” on {pictures} calibration pictures.",
        "size": "Weights",
        "scores": "Signal-to-noise ratio at the scores",
        "same": "Same first class as float32",
        "of": "{count} of {all} pictures",
        "answers": "Correct answers on {count} labelled pictures",
        "change": "change in points",
        "values": "Value by value",
        "explained": "Signal-to-noise ratio of int8 against float32 on {pictures} of the "
        "calibration pictures: 20 dB is an error of a tenth of the signal, 40 dB of a hundredth. "
        "Each value includes the errors of those before it. “At the ends” is the part of the bytes "
        "that are 0 or 255, and so perhaps clipped.",
        "value": "value",
        "ratio": "dB",
        "scale": "scale",
        "zero_point": "zero point",
        "ends": "at the ends",
        "exact": "exact",
    },
    "zh": {
        "title": "{model} 的 int8 版本",
        "made": "权重为 int8，每个输出通道各有一个缩放系数；激活值为 uint8，每个张量有一个"
        "缩放系数和一个零点，由“{method}”方法根据 {pictures} 张校准图片选定。",
        "size": "权重大小",
        "scores": "得分的信噪比",
        "same": "首位类别与 float32 相同",
        "of": "{all} 张图片中的 {count} 张",
        "answers": "{count} 张有标注图片上的正确数",
        "change": "变化（百分点）",
        "values": "逐个数值比较",
        "explained": "在 {pictures} 张校准图片上 int8 相对 float32 的信噪比：20 dB 表示误差为信号的"
        "十分之一，40 dB 表示百分之一。每个值都包含其前各层的误差。“端点”指等于 0 或 255、"
        "可能已被截断的字节所占比例。",
        "value": "数值",
        "ratio": "dB",
        "scale": "缩放系数",
        "zero_point": "零点",
        "ends": "端点",
        "exact": "完全相同",
    },
}

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff }
table { border-collapse: collapse; width: 100% }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
.bar { width: 30% } .bar div { height: .8em; background: #4a7ba6 }
dt { font-weight: 600 } dd { margin: 0 0 .5rem }
"""
_FULL_BAR = 60  # dB


@dataclass(frozen=True)
class Answers:
    """Correct answers on labelled pictures: (top-1, top-5) of float32 and of int8."""

    pictures: int
    float32: tuple[int, int]
    int8: tuple[int, int]


def to_html(
    comparison: Comparison,
    *,
    model: str,
    method: str,
    pictures: int,
    sizes: tuple[int, int],
    answers: Answers | None = None,
    lang: str = "en",
) -> str:
    """Return the page about ``model``, quantised by ``method`` on ``pictures`` pictures.

    ``sizes`` are the bytes of the weights in float32 and in int8.
    """
    texts = TEXTS[lang]
    title = html.escape(texts["title"].format(model=model))
    made = html.escape(texts["made"].format(method=method, pictures=pictures))
    same = texts["of"].format(count=comparison.same_top1, all=comparison.pictures)
    facts = (
        (texts["size"], " → ".join(f"{size / 1e6:.2f} MB" for size in sizes)),
        (texts["scores"], _ratio(comparison.scores, texts)),
        (texts["same"], same),
    )
    terms = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in facts)
    explained = html.escape(texts["explained"].format(pictures=comparison.pictures))
    return (
        f'<!DOCTYPE html>\n<html lang="{lang}"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body><h1>{title}</h1><p>{made}</p><dl>{terms}</dl>\n"
        f"{'' if answers is None else _answers(answers, texts)}"
        f"<h2>{html.escape(texts['values'])}</h2><p>{explained}</p>\n"
        f"{_values(comparison, texts)}</body></html>\n"
    )


def _answers(answers: Answers, texts: Mapping[str, str]) -> str:
    rows = []
    for rank, label in enumerate(("top-1", "top-5")):
        before, after = answers.float32[rank], answers.int8[rank]
        change = 100 * (after - before) / max(1, answers.pictures)
        rows.append((label, str(before), str(after), f"{change:+.2f}"))
    title = html.escape(texts["answers"].format(count=answers.pictures))
    heads = ("", "float32", "int8", texts["change"])
    return f"<h2>{title}</h2>\n{_table(heads, rows)}"


def _values(comparison: Comparison, texts: Mapping[str, str]) -> str:
    heads = ("value", "ratio", "", "scale", "zero_point", "ends")
    rows = []
    for value in comparison.values:
        share = min(max(value.signal_to_noise, 0), _FULL_BAR) / _FULL_BAR
        numbers = ("–", "–", "–")
        if value.scale is not None:
            numbers = (f"{value.scale:.4g}", f"{value.zero_point:.0f}", f"{value.clipped:.2%}")
        rows.append((value.name, _ratio(value, texts), share, *numbers))
    return _table([texts[head] if head else "" for head in heads], rows)


def _ratio(value: ValueComparison, texts: Mapping[str, str]) -> str:
    ratio = value.signal_to_noise
    return f"{ratio:.1f} dB" if math.isfinite(ratio) else texts["exact"] if ratio > 0 else "–∞"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    """Return a table; a number in a row is the length of a bar, from 0 to 1."""

    def cell(entry: str | float) -> str:
        if isinstance(entry, str):
            return f"<td>{html.escape(entry)}</td>"
        return f'<td class="bar"><div style="width: {entry:.1%}"></div></td>'

    lines = ["".join(f"<th>{html.escape(head)}</th>" for head in heads)]
    lines += ["".join(map(cell, row)) for row in rows]
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>\n"
