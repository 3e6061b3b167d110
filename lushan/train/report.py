"""The report of a run: one HTML page that needs nothing else, in English or Chinese."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from lushan.errors import LushanError
from lushan.models.labels import Labels
from lushan.train.drawing import data_address, draw_confusion, draw_each_curve
from lushan.train.picture_check import PictureStore
from lushan.train.validation import HardPicture, Validation, most_confused

TEXTS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "title": "Training of {model}",
        "made": "{train} pictures of {classes} classes to train on, {val} to validate on; "
        "{epochs} epochs, seed {seed}. The model in this folder is that of epoch {epoch}.",
        "answers": "Correct answers on {count} validation pictures",
        "loss": "Mean loss",
        "curves": "Curves",
        "confusion": "Confusion matrix",
        "matrix": "Each row is a class, each column an answer: dark on the diagonal is right. "
        "Shades go by the square root, so that rare mistakes show.",
        "pairs": "Most confused",
        "is": "what it is",
        "said": "what the network said",
        "times": "pictures",
        "share": "of the class",
        "none": "None: every validation picture was answered correctly.",
        "hardest": "Highest loss",
        "explained": "The pictures of the highest loss: mistakes the network is sure of, and often "
        "pictures whose label is wrong.",
        "problems": "Pictures that could not be read, and were left out",
        "duplicates": "The same picture more than once",
    },
    "zh": {
        "title": "{model} 的训练",
        "made": "训练图片 {train} 张，共 {classes} 个类别；验证图片 {val} 张；{epochs} 轮，随机种子"
        "为 {seed}。本文件夹中的模型来自第 {epoch} 轮。",
        "answers": "{count} 张验证图片上的正确数",
        "loss": "平均损失",
        "curves": "曲线",
        "confusion": "混淆矩阵",
        "matrix": "每行是一个类别，每列是一种回答；对角线上的深色表示答对。颜色深浅按平方根，"
        "以便看出少见的错误。",
        "pairs": "最易混淆的类别",
        "is": "实际类别",
        "said": "网络的回答",
        "times": "图片数",
        "share": "占该类别",
        "none": "没有：全部验证图片都答对了。",
        "hardest": "损失最高的图片",
        "explained": "损失最高的图片：网络很有把握却答错的，往往也是标注有误的。",
        "problems": "读不出、未使用的图片",
        "duplicates": "重复的图片",
    },
}

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  color: #24292f; background: #fff }
table { border-collapse: collapse } th, td { padding: .15rem .8rem .15rem 0; text-align: left;
  border-bottom: 1px solid #8c959f55 } td.n { text-align: right }
svg { max-width: 100%; height: auto }
.curves { display: flex; flex-wrap: wrap }
.hard { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0; width: 10rem }
figure img { width: 8rem; height: 8rem; object-fit: contain; background: #8c959f22 }
figcaption { font-size: 13px; overflow-wrap: anywhere }
@media (prefers-color-scheme: dark) { body { color: #d0d7de; background: #0d1117 } }
"""
_THUMBNAIL = 128  # pixels
_LISTED = 200  # problems and duplicates; the record of the run has all of them


@dataclass(frozen=True)
class RunFacts:
    """What the page says of a run, beside its measurements."""

    model: str
    labels: Labels
    train: int  # pictures
    val: int
    epochs: int  # that were done
    seed: int
    kept_epoch: int  # counted from 1
    unreadable: Sequence[tuple[str, LushanError]]
    duplicates: Sequence[Sequence[str]]


def to_html(
    facts: RunFacts,
    validation: Validation,
    records: Sequence[Mapping[str, Any]],
    store: PictureStore,
    *,
    lang: str,
) -> str:
    """Return the page; ``records`` are those of the metrics, ``store`` has the pictures."""
    texts = TEXTS[lang]
    names = [facts.labels.description(index, lang) for index in range(len(facts.labels))]
    title = html.escape(texts["title"].format(model=facts.model))
    made = texts["made"].format(
        train=facts.train,
        val=facts.val,
        classes=len(names),
        epochs=facts.epochs,
        seed=facts.seed,
        epoch=facts.kept_epoch,
    )
    parts = (
        f"<h1>{title}</h1><p>{html.escape(made)}</p>",
        _answers(validation, texts),
        f"<h2>{texts['curves']}</h2>"
        f'<div class="curves">{"".join(draw_each_curve(records, lang))}</div>',
        f"<h2>{texts['confusion']}</h2><p>{texts['matrix']}</p>"
        f"{draw_confusion(validation.confusion, names, lang)}",
        f"<h2>{texts['pairs']}</h2>{_pairs(validation, names, texts)}",
        f"<h2>{texts['hardest']}</h2><p>{texts['explained']}</p>"
        f'<div class="hard">{"".join(_figure(p, names, store) for p in validation.hardest)}</div>',
        _listed(texts["problems"], [f"{error.message(lang)}" for _, error in facts.unreadable]),
        _listed(texts["duplicates"], [" = ".join(group) for group in facts.duplicates]),
    )
    return (
        f'<!DOCTYPE html>\n<html lang="{lang}"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        "<body>" + "\n".join(parts) + "</body></html>\n"
    )


def _answers(found: Validation, texts: Mapping[str, str]) -> str:
    rows = "".join(
        f'<tr><td>{name}</td><td class="n">{count}</td>'
        f'<td class="n">{100 * count / max(1, found.images):.2f} %</td></tr>'
        for name, count in (("top-1", found.top1), ("top-5", found.top5))
    )
    title = texts["answers"].format(count=found.images)
    return f"<h2>{title}</h2><table>{rows}</table><p>{texts['loss']}: {found.loss:.4f}</p>"


def _pairs(found: Validation, names: Sequence[str], texts: Mapping[str, str]) -> str:
    pairs = most_confused(found.confusion)
    if not pairs:
        return f"<p>{texts['none']}</p>"
    totals = found.confusion.sum(axis=1)
    heads = "".join(f"<th>{texts[key]}</th>" for key in ("is", "said", "times", "share"))
    rows = "".join(
        f"<tr><td>{html.escape(names[label])}</td><td>{html.escape(names[answer])}</td>"
        f'<td class="n">{count}</td><td class="n">{100 * count / totals[label]:.1f} %</td></tr>'
        for label, answer, count in pairs
    )
    return f"<table><tr>{heads}</tr>{rows}</table>"


def _figure(picture: HardPicture, names: Sequence[str], store: PictureStore) -> str:
    image = Image.fromarray(store(picture.path))
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    name = html.escape(picture.path.name)
    label, answer = html.escape(names[picture.label]), html.escape(names[picture.answer])
    return (
        f'<figure><img src="{data_address(image, "JPEG")}" alt="{name}">'
        f"<figcaption>{label} → {answer} ({100 * picture.probability:.1f} %)<br>"
        f"{picture.loss:.2f} · {name}</figcaption></figure>"
    )


def _listed(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    more = f"<li>… (+{len(lines) - _LISTED})</li>" if len(lines) > _LISTED else ""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines[:_LISTED])
    return f"<h2>{html.escape(title)}</h2><ul>{items}{more}</ul>"
