// Chapters 7 and 8: the network as a whole; branch and shortcut of each residual block.

chapter(7, "network", (section) => {
  const { network } = data;
  const key = network.shortcut === "none" ? "network.plain" : "network.counts";
  section.append(paragraph(key, {
    weighted: network.weighted_layers, projections: network.projections, parameters: whole(network.parameters),
    macs: short(network.multiply_accumulates / 1e9, 3), yi: short(network.multiply_accumulates / 1e8, 3), convolutions: network.weighted_layers - 1,
  }), el("figure", { class: "chart" }, mountain(), said("figcaption", "network.mountain")), stagesTable(),
  paragraph("network.family"), truth("network.truth"));
});

// Height and width shrink while channels grow: each layer as a bar, its width above, channels below.
function mountain() {
  const layers = data.network.layers.filter(([, operator, sizes]) => sizes.length === 3 && /convolution|pooling/.test(operator));
  const width = 720;
  const each = width / layers.length;
  const most = Math.max(...layers.map(([, , sizes]) => sizes[0]));
  const channels = Math.max(...layers.map(([, , sizes]) => Math.log2(sizes[2])));
  const drawing = svg("svg", { viewBox: `0 0 ${width} 200`, class: "mountain" });
  layers.forEach(([name, operator, sizes, , macs], i) => {
    const up = 110 * Math.sqrt(sizes[0] / most);
    const down = 70 * (Math.log2(sizes[2]) / channels);
    const title = () => svg("title", {}, `${name} (${operator}) ${shape(sizes)}, ${(macs / 1e6).toFixed(1)} MMAC`);
    drawing.append(
      svg("rect", { x: i * each + each * 0.06, width: each * 0.88, y: 115 - up, height: up, class: `up ${operator}` }, title()),
      svg("rect", { x: i * each + each * 0.06, width: each * 0.88, y: 119, height: down, class: `down ${operator}` }, title()));
  });
  return drawing;
}

function stagesTable() {
  const stages = new Map();
  for (const [name, , sizes, parameters, macs] of data.network.layers) {
    const stage = name.includes(".") ? name.split(".")[0] : sizes.length === 3 && !stages.has("layer1") ? "conv1" : name;
    const known = stages.get(stage) || { parameters: 0, macs: 0, sizes };
    stages.set(stage, { parameters: known.parameters + parameters, macs: known.macs + macs, sizes });
  }
  return table([said("span", "network.stage"), said("span", "network.output"), said("span", "network.parameters"), "MMAC"],
    Array.from(stages, ([name, one]) => [name, shape(one.sizes), whole(one.parameters), (one.macs / 1e6).toFixed(1)]));
}

// --- chapter 8 -----------------------------------------------------------------------------------

chapter(8, "residual", (section) => {
  if (!data.blocks.length) {
    section.append(paragraph("residual.none"));
    return;
  }
  section.append(paragraph("residual.text"), el("p", { class: "legend" },
    said("span", "residual.branch", {}, { class: "key branch" }), said("span", "residual.shortcut", {}, { class: "key shortcut" })));
  section.append(el("div", { class: "blocks" }, data.blocks.map(blockRow)), paragraph("residual.read"));
});

function blockRow(block) {
  const share = Math.max(0, Math.min(1, block.share));
  return el("div", { class: "block" },
    el("b", {}, block.node.replace(/\.add$/, "")),
    el("div", { class: "share", role: "img", "aria-label": percent(block.share) },
      el("span", { class: "branch", style: `width:${100 * share}%` }, share > 0.12 ? percent(block.share) : ""),
      el("span", { class: "shortcut", style: `width:${100 * (1 - share)}%` }, share < 0.88 ? percent(1 - block.share) : "")),
    el("small", {}, `‖F(x)‖ ${short(block.branch, 3)}  ‖x‖ ${short(block.shortcut, 3)}  ‖F(x)+x‖ ${short(block.sum, 3)}  cos ${block.cosine.toFixed(2).replace("-", "−")}`));
}
