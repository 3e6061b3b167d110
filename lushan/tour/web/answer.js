// Chapters 11 and 12: the vote of the features; softmax and the answer.

const MOST_VOTES = 12;

chapter(11, "votes", (section) => {
  const [classes, features] = data.votes.shape;
  section.append(said("blockquote", "poem.above"), paragraph("votes.text", { features: whole(features), classes: whole(classes) }),
    votesView(), truth("votes.truth.features", { features: whole(features), classes: whole(classes) }),
    truth("votes.truth.share", { share: percent(data.network.classifier_parameters / data.network.parameters) }),
    said("h3", "votes.everywhere"), paragraph("votes.everywhere.text", {
      weights: (data.network.dense_stem / 1e9).toFixed(1), gigabytes: whole(data.network.dense_stem * 4 / 1e9),
    }));
});

// Returns the terms of class `place` of the answer: [feature, term], the largest first, and the sum.
function termsOf(place) {
  const features = numbers(data.votes.features);
  const weights = numbers(data.votes.weights).subarray(place * features.length, (place + 1) * features.length);
  const terms = Array.from(features, (x, i) => x * weights[i]);
  const order = Array.from(terms.keys()).sort((a, b) => Math.abs(terms[b]) - Math.abs(terms[a]));
  const bias = data.votes.biases[place];
  return { features, weights, terms, order, bias, score: exactSum([...terms, bias]) };
}

function votesView() {
  const view = el("div", { class: "votes" });
  const tabs = el("div", { class: "tabs" }, data.votes.classes.map((index, place) =>
    labelled("button", index, { type: "button", onclick: () => show(place) })));
  for (const [place, tab] of Array.from(tabs.children).entries()) tab.addEventListener("click", () => show(place));
  const show = (place) => {
    Array.from(tabs.children).forEach((tab, i) => tab.classList.toggle("chosen", i === place));
    const found = termsOf(place);
    const most = Math.abs(found.terms[found.order[0]]) || 1;
    const shown = found.order.slice(0, MOST_VOTES);
    const rest = exactSum(found.order.slice(MOST_VOTES).map((i) => found.terms[i]));
    const displayed = data.votes.scores[place];
    view.replaceChildren(
      el("div", { class: "vote-list" }, shown.map((feature) => voteRow(found, feature, most))),
      el("table", { class: "sum" }, el("tbody", {},
        line("votes.shown", exactSum(shown.map((i) => found.terms[i])), "shown", 7, { count: shown.length }),
        line("votes.rest", rest, "rest", 7, { count: whole(found.terms.length - shown.length) }),
        line("cell.bias", found.bias, "bias", 7),
        line("votes.score", found.score, "score", 9),
        line("cell.displayed", displayed, "displayed", 9),
        line("cell.deviation", displayed - found.score, "deviation", 3))));
  };
  show(0);
  return el("div", {}, tabs, view);
}

function voteRow(found, feature, most) {
  const layer = data.layers[data.layers.length - 1];
  const k = layer.channels.findIndex((channel) => channel.channel === feature);
  const term = found.terms[feature];
  return el("div", { class: "vote" },
    k >= 0 ? mapCanvas(layer, k) : el("span", { class: "map" }),
    el("div", {},
      el("span", { class: "vote-name" }, `#${feature}`),
      el("small", {}, ` ${short(found.features[feature], 4)} × ${short(found.weights[feature], 4)} = ${short(term, 4)}`),
      el("div", { class: `vote-bar${term < 0 ? " against" : ""}`, style: `--part:${Math.abs(term) / most}` })));
}

// --- chapter 12 ----------------------------------------------------------------------------------

chapter(12, "softmax", (section) => {
  section.append(paragraph("softmax.text"), softmaxTable(), said("h3", "softmax.try"), paragraph("softmax.try.text"), calculator(),
    truth("softmax.truth"), paragraph("softmax.hard"), paragraph("softmax.sigmoid"),
    said("h3", "softmax.cats"), paragraph("softmax.cats.text"),
    el("ul", { class: "cats" }, data.softmax.cats.map((cat) =>
      follow(el("li", {}), () => `${cat.index}  ${cat.id}  ${cat[state.language]}`))));
});

function softmaxTable() {
  const scores = numbers(data.softmax.scores);
  const found = softmax(scores);
  const shown = data.votes.classes;
  const rest = exactSum(Array.from(found.powers).filter((_, i) => !shown.includes(i)));
  const rows = shown.map((index) => [labelled("span", index), short(scores[index], 6), short(found.powers[index], 5), percent(found.probabilities[index])]);
  if (scores.length > shown.length) rows.push([said("span", "softmax.rest", { count: whole(scores.length - shown.length) }), "", short(rest, 5), percent(rest / found.total)]);
  rows.push([said("b", "softmax.sum"), "", short(found.total, 5), "100 %"]);
  return table([said("span", "softmax.class"), said("span", "softmax.score"), "exp(z − max)", said("span", "softmax.probability")], rows, { class: "softmax" });
}

function calculator() {
  const out = el("div", { class: "calculated" });
  const inputs = [2, 1, 0.1].map((value, i) => el("input", { type: "number", step: 0.1, value, "aria-label": `z${i + 1}`, oninput: () => draw() }));
  const draw = () => {
    const scores = inputs.map((input) => Number(input.value) || 0);
    const found = softmax(scores);
    const most = scores.indexOf(found.most);
    out.replaceChildren(...found.probabilities.map((part, i) => el("div", { class: i === most ? "calculation first" : "calculation" },
      el("span", { class: "bar", style: `--part:${part}` }), el("span", {}, `${(100 * part).toFixed(1)} %`))));
  };
  const preset = (values) => el("button", { type: "button", onclick: () => { inputs.forEach((input, i) => { input.value = values[i]; }); draw(); } }, values.join(", "));
  draw();
  return el("div", { class: "calculator" }, el("div", { class: "tabs" }, preset([2, 1, 0.1]), preset([2.1, 1.9, 0.1])), el("div", { class: "inputs" }, inputs), out);
}
