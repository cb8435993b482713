"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const names = data.names; // names[0] is background
const metrics = Object.keys(data.means);
const short = { voc07: "VOC07", voc: "VOC", coco: "COCO" };

const byId = (id) => document.getElementById(id);
const figure = (value, digits = 3) => (value === null ? "–" : value.toFixed(digits));
const count = (value) => value.toLocaleString("en");

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// A table of rows of cells; a cell is a value, or {value, text} where it sorts by other than it shows.
function table(target, columns, rows, foot = null, sortable = false) {
  const body = element("tbody");
  const headers = columns.map((title, column) => {
    if (!sortable) return element("th", { scope: "col", textContent: title });
    const header = element("th", { scope: "col" }, element("button", { type: "button", textContent: title }));
    header.firstChild.addEventListener("click", () => {
      const rising = header.getAttribute("aria-sort") === "descending" || (column === 0 && !header.hasAttribute("aria-sort"));
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", rising ? "ascending" : "descending");
      fill([...rows].sort((a, b) => compare(a[column], b[column], rising)));
    });
    return header;
  });
  const row = (cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell instanceof Node ? cell : cell.text ?? String(cell))));
  const fill = (sorted) => body.replaceChildren(...sorted.map(row));
  fill(rows);
  target.replaceChildren(element("thead", {}, element("tr", {}, ...headers)), body);
  if (foot) target.append(element("tfoot", {}, row(foot)));
}

function compare(a, b, rising) {
  const [x, y] = [a, b].map((cell) => (cell !== null && typeof cell === "object" ? cell.value : cell));
  if (x === null || y === null) return (x === null) - (y === null); // unknown last, either way
  const order = typeof x === "string" ? x.localeCompare(y) : x - y;
  return rising ? order : -order;
}

const cell = (value, digits = 3) => ({ value, text: figure(value, digits) });
const whole = (value) => ({ value, text: count(value) });
const total = (values) => values.reduce((sum, value) => sum + value, 0);

function summary() {
  byId("title").textContent = `${data.dataset} ${data.split}`;
  document.title = `${data.dataset} ${data.split}: SSD evaluation`;
  const changes = Object.entries(data.changes).map(([field, value]) => ` · ${field} ${value}`).join("");
  const detectedBy = data.model ?? `step ${count(data.step)}`;
  byId("subtitle").textContent = `${detectedBy} · ${count(data.images)} images · ${names.length - 1} classes${changes}`;
  const cards = metrics.map((metric) => [figure(data.means[metric]), data.titles[metric]]);
  if (data.coco) cards.push([figure(data.coco.AP50), "COCO AP at IoU .5"], [figure(data.coco.AR_100), "COCO AR, 100 detections"]);
  const classes = Object.values(data.classes);
  cards.push([count(total(classes.map((c) => c.objects))), "objects"], [count(total(classes.map((c) => c.detections))), "detections"]);
  if (data.images_per_second !== null) cards.push([figure(data.images_per_second, 0), "images/s in the whole pass"]);
  byId("cards").append(...cards.map(([value, title], i) =>
    element("div", { className: i ? "card" : "card first" }, element("b", { textContent: value }), element("span", { textContent: title }))));
}

function classTable() {
  const classes = Object.entries(data.classes);
  table(
    byId("class-table"),
    ["class", ...metrics.map((metric) => `AP ${short[metric]}`), "objects", "detections", "best F1", "at score"],
    classes.map(([name, of]) => [
      name, ...metrics.map((metric) => cell(of.AP[metric])), whole(of.objects), whole(of.detections),
      cell(of.best_F1), cell(of.best_F1_score),
    ]),
    ["mean or sum", ...metrics.map((metric) => cell(data.means[metric])),
      whole(total(classes.map(([, of]) => of.objects))), whole(total(classes.map(([, of]) => of.detections))), "", ""],
    true,
  );
}

// The square 0..1 x 0..1 with its grid; at(x, y) gives pixels.
function axes(xTitle, yTitle) {
  const [left, top, side] = [46, 10, 400];
  const at = (x, y) => [left + x * side, top + (1 - y) * side * 0.8];
  const chart = svg("svg", { viewBox: `0 0 ${left + side + 14} ${top + side * 0.8 + 44}`, role: "img" });
  for (let i = 0; i <= 5; i++) {
    const v = i / 5, [x, y] = at(v, v), [x0, y0] = at(0, 0), [x1, y1] = at(1, 1);
    chart.append(
      svg("line", { class: "grid", x1: x, x2: x, y1: y0, y2: y1 }), svg("line", { class: "grid", x1: x0, x2: x1, y1: y, y2: y }),
      svg("text", { x, y: y0 + 16, "text-anchor": "middle" }, v.toFixed(1)), svg("text", { x: x0 - 6, y: y + 4, "text-anchor": "end" }, v.toFixed(1)));
  }
  const [middle, bottom] = at(0.5, 0);
  chart.append(svg("text", { x: middle, y: bottom + 34, "text-anchor": "middle" }, xTitle),
    svg("text", { transform: `translate(12 ${at(0, 0.5)[1]}) rotate(-90)`, "text-anchor": "middle" }, yTitle));
  return [chart, at];
}

const line = (points, at, style) => svg("polyline", { class: style, points: points.map(([x, y]) => at(x, y).join(",")).join(" ") });

function curvePlot(label) {
  const [chart, at] = axes("recall", "precision");
  const legend = element("p", { className: "legend" });
  data.curves.forEach((curve, k) => {
    if (!curve) return;
    const drawn = line(curve, at, label ? "all" : "curve");
    drawn.append(svg("title", {}, names[k + 1]));
    chart.append(drawn);
    if (label) return;
    const colour = `hsl(${(k * 137.5) % 360} 65% 50%)`;
    drawn.style.stroke = colour;
    const key = element("span", { className: "key" });
    key.style.borderColor = colour;
    legend.append(element("span", {}, key, ` ${names[k + 1]}`));
  });
  const curve = label ? data.curves[label - 1] : null;
  if (curve && curve.length) {
    chart.append(line(curve, at, "curve"));
    const f1 = ([r, p]) => (r + p ? (2 * r * p) / (r + p) : 0);
    const best = curve.reduce((a, b) => (f1(b) > f1(a) ? b : a));
    const [cx, cy] = at(best[0], best[1]);
    chart.append(svg("circle", { class: "dot", cx, cy, r: 5 }));
  }
  byId("curve-plot").replaceChildren(chart, legend);
}

const mostConfused = 100; // classes that a browser can show the table of

function confusedClasses() {
  const classes = names.slice(1).map((_, k) => k + 1);
  if (classes.length <= mostConfused) return classes;
  const mistakes = names.map(() => 0);
  data.confusion.forEach((row, object) => row.forEach((value, found) => {
    if (object !== found) { mistakes[object] += value; mistakes[found] += value; }
  }));
  byId("confusion-note").textContent = `Of ${classes.length} classes the ${mostConfused} with most mistakes; shares are of all.`;
  return classes.sort((a, b) => mistakes[b] - mistakes[a]).slice(0, mostConfused).sort((a, b) => a - b);
}

function confusionTable() {
  const shown = [...confusedClasses(), 0];
  const row = (object) => {
    const sum = total(data.confusion[object]) || 1;
    const header = element("th", { scope: "row", textContent: object ? names[object] : "no object" });
    return element("tr", {}, header, ...shown.map((found) => {
      const value = data.confusion[object][found];
      const made = element("td", { textContent: object || found ? value : "", title: `${names[object]} → ${names[found]}` });
      made.style.background = `rgba(var(--heat), ${(0.65 * value) / sum})`;
      return made;
    }));
  };
  byId("confusion-table").replaceChildren(
    element("thead", {}, element("tr", {}, element("th"), ...shown.map((k) => element("th", { scope: "col", textContent: k ? names[k] : "not found" })))),
    element("tbody", {}, ...shown.map(row)));
}

const meaning = {
  class: "on an object of another class, IoU .5 or more",
  box: "on an object of its class, IoU .1 to .5",
  both: "on an object of another class, IoU .1 to .5",
  duplicate: "on an object that a better one has found",
  background: "on no object, IoU .1 or less",
  missed: "object that no detection comes near",
};

function errorTable() {
  const most = Math.max(...data.errors.map((error) => error.cost ?? 0), 1e-9);
  table(byId("error-table"), ["kind", "number", "mAP cost", "", ""], data.errors.map((error) => {
    const bar = element("span", { className: "bar" });
    bar.style.width = `${(8 * Math.max(0, error.cost ?? 0)) / most}rem`;
    return [error.kind, whole(total(error.count)), cell(error.cost), bar, element("span", { className: "note", textContent: meaning[error.kind] })];
  }));
}

function sizeTable() {
  if (!data.sizes) {
    byId("size-table").replaceWith(element("p", { textContent: "Not computed: add coco to --metrics." }));
    return;
  }
  const sizes = Object.keys(data.sizes);
  table(byId("size-table"), ["class", ...sizes],
    names.slice(1).map((name, k) => [name, ...sizes.map((size) => cell(data.sizes[size][k + 1]))]),
    ["all", ...sizes.map((size) => cell(data.sizes[size][0]))], true);
}

function calibrationPlot(label) {
  const bins = data.calibration[label];
  const [chart, at] = axes("score", "share of hits");
  const most = Math.log1p(Math.max(...bins.count, 1)), width = 1 / bins.count.length;
  bins.count.forEach((n, i) => {
    const [x, y] = at(i * width + 0.01, (0.25 * Math.log1p(n)) / most), [right, bottom] = at((i + 1) * width - 0.01, 0);
    const column = svg("rect", { class: "column", x, y, width: right - x, height: bottom - y });
    column.append(svg("title", {}, `${count(n)} detections`));
    chart.append(column);
  });
  chart.append(line([[0, 0], [1, 1]], at, "diagonal"));
  const known = bins.score.map((score, i) => [score, bins.precision[i]]).filter(([score]) => score !== null);
  chart.append(line(known, at, "curve"), ...known.map(([x, y]) => svg("circle", { class: "dot", cx: at(x, y)[0], cy: at(x, y)[1], r: 4 })));
  const error = element("p", { className: "note", textContent: `expected calibration error ${figure(bins.error)}` });
  byId("calibration-plot").replaceChildren(chart, error);
}

function speedTable() {
  if (!data.speeds.length) {
    byId("speed-note").textContent = "An exported file runs as a whole: its steps were not timed.";
    return;
  }
  byId("speed-note").textContent = `Milliseconds an image on ${data.device}, one device; files are decoded on one core of the host.`;
  const each = (speed, ...steps) => figure((1000 * total(steps.map((step) => speed[step]))) / speed.batch_size, 2);
  table(byId("speed-table"), ["batch", "decode file", "preprocess", "forward", "boxes + NMS", "on the device", "images/s"], data.speeds.map((speed) => {
    const seconds = speed.preprocess + speed.forward + speed.detect;
    return [String(speed.batch_size), ...["decode", "preprocess", "forward", "detect"].map((step) => each(speed, step)),
      each(speed, "preprocess", "forward", "detect"), figure(speed.batch_size / seconds, 1)];
  }));
}

const groups = { "hit": "Best hits", "false positive": "Surest false positives", "missed": "Missed objects" };
const page = 48;

function picture(item) {
  const boxes = svg("svg", { viewBox: `0 0 ${item.width} ${item.height}`, preserveAspectRatio: "none" });
  const draw = (of, style) => of.forEach(([x, y, right, bottom]) => {
    const place = { x, y, width: Math.max(0, right - x), height: Math.max(0, bottom - y) };
    boxes.append(svg("rect", { ...place, class: "halo" }), svg("rect", { ...place, class: style }));
  });
  draw(item.objects, "object");
  draw(item.found, "found");
  const of = item.found[0];
  const heading = of ? `${names[of[4]]} ${of[5].toFixed(2)}` : names[item.label];
  const there = item.group === "false positive" && item.objects.length ? `there: ${[...new Set(item.objects.map((object) => names[object[4]]))].join(", ")}` : "";
  const image = element("img", { src: data.pictures[item.image], alt: `${item.group}: ${heading}`, width: item.width, height: item.height });
  return element("figure", {}, element("div", { className: "frame" }, image, boxes),
    element("figcaption", {}, element("b", { textContent: heading }), ` ${item.note}`, element("small", { textContent: [item.name, there].filter(Boolean).join(" · ") })));
}

function gallery() {
  let group = "hit", label = 0, shown = page;
  const chips = Object.entries(groups).map(([key, title]) => {
    const chip = element("button", { type: "button", className: "chip", textContent: title });
    chip.dataset.group = key;
    chip.addEventListener("click", () => { group = key; shown = page; show(); });
    return chip;
  });
  byId("group-filter").append(...chips);
  const more = element("button", { type: "button", className: "chip", id: "more", textContent: "Show more" });
  more.addEventListener("click", () => { shown += page; show(); });
  byId("gallery").append(more);
  function show() {
    chips.forEach((chip) => chip.setAttribute("aria-pressed", String(chip.dataset.group === group)));
    const chosen = data.items.filter((item) => item.group === group && (!label || item.label === label));
    byId("pictures").replaceChildren(...chosen.slice(0, shown).map(picture));
    byId("gallery-count").textContent = chosen.length ? `${Math.min(shown, chosen.length)} of ${chosen.length}` : "none";
    more.hidden = chosen.length <= shown;
  }
  chooser("gallery-class", "all", (chosen) => { label = chosen; shown = page; show(); });
}

// A list of classes to choose from, 0 for all; calls `chosen` at once and with every choice.
function chooser(id, all, chosen) {
  const list = byId(id);
  list.append(...names.map((name, k) => new Option(k ? name : all, String(k))));
  list.addEventListener("change", () => chosen(Number(list.value)));
  chosen(0);
}

summary();
classTable();
chooser("curve-class", "all", curvePlot);
confusionTable();
errorTable();
sizeTable();
chooser("calibration-class", "all", calibrationPlot);
speedTable();
gallery();
