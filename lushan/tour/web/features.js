// Chapter 6: every layer's strongest channels, and what they answered to.

chapter(6, "features", (section) => {
  const sizes = [3, ...data.layers.map((layer) => layer.shape[2])];
  section.append(paragraph("features.text", { channels: sizes.join(" → ") }), paragraph("features.how"));
  if (!data.layers.some((layer) => layer.patterns)) section.append(paragraph("features.none", { activation: data.network.activation }));
  data.layers.forEach((layer) => section.append(layerView(layer)));
});

function layerView(layer) {
  const strongest = layer.channels.slice(0, 8);
  return el("section", { class: "layer", "data-node": layer.node },
    el("h3", {}, layer.node, " ", el("small", {}, shape(layer.shape), " · ", said("span", "features.sees", { field: shape(layer.field) }))),
    el("div", { class: "channels" }, strongest.map((channel, k) => channelCard(layer, channel, k))));
}

function channelCard(layer, channel, k) {
  const map = layer.overviews
    ? el("button", { type: "button", class: "overview", onclick: () => openCell(layer, k, channel.row, channel.column) },
      sayAttribute(el("img", { src: layer.overviews[k], class: "map pixelated" }), "alt", "cell.map", { node: layer.node, channel: channel.channel }))
    : mapCanvas(layer, k);
  const seen = drawPicture(canvas(1, 1, { class: "pixelated seen" }), channel.box);
  const card = el("figure", { class: "channel" }, map);
  if (layer.patterns) {
    const pattern = el("img", { src: layer.patterns[k], class: "pattern pixelated", loading: "lazy" });
    card.append(sayAttribute(pattern, "alt", "features.pattern", { channel: channel.channel }));
  }
  card.append(seen, el("figcaption", {}, `#${channel.channel}`, el("small", {}, ` ${short(channel.peak, 3)}`)));
  return card;
}
