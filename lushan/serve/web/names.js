// The names of classes in the language of the page, also after that has changed.

import { labels } from "./api.js";
import { language } from "./texts.js";

const known = new Map(); // "model language" → names by class

const namesOf = (model, lang) => {
  const key = `${model} ${lang}`;
  if (!known.has(key)) known.set(key, new Map());
  return known.get(key);
};

export function remember(model, lang, predictions) {
  const names = namesOf(model, lang);
  for (const { index, description } of predictions) names.set(index, description);
}

export const nameOf = (model, prediction) =>
  namesOf(model, language()).get(prediction.index) ?? prediction.description;

// Ask for all names of these models, once; a model that is not here any more keeps its old ones.
export async function learn(models) {
  const lang = language();
  for (const model of new Set(models)) {
    const names = namesOf(model, lang);
    if (names.complete) continue;
    try {
      (await labels(model, lang)).forEach((name, index) => names.set(index, name));
      names.complete = true;
    } catch {
      // The names of before stay.
    }
  }
}
