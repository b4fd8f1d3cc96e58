"use strict";
// The page works without this script; with it charts answer the pointer and the arrow keys,
// filters hide what is not asked for, and tables sort. Names are only ever set as textContent.
const root = document.documentElement;
const $ = (selector, under = document) => [...under.querySelectorAll(selector)];
const data = JSON.parse(document.getElementById("data").textContent);
const status = document.getElementById("status");
root.classList.add("script");

const theme = document.getElementById("theme");
const setTheme = (name) => {
  root.dataset.theme = name;
  theme.setAttribute("aria-pressed", String(name === "dark"));
};
setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
theme.onclick = () => setTheme(root.dataset.theme === "dark" ? "light" : "dark");

// Charts: each figure has the numbers of its lines in data.charts, in the order of its groups.
const figures = $("figure[data-chart]").map((figure) => {
  const about = data.charts[figure.dataset.chart];
  const groups = $("g.curve", figure);
  const lines = about.lines.map((line, i) => ({ ...line, group: groups[i], kept: line.p.map(() => true) }));
  for (const line of lines) {
    line.paths = $("path", line.group).map((path) => ({ path, d: path.getAttribute("d") }));
    const level = line.group.querySelector(".flat, .tiny, .tuned, .scratch");
    line.points = line.p.map((p) => [p[1], about.scale[0] + about.scale[1] * p[2]]);
    line.level = level !== null;
  }
  return { figure, about, lines, plot: figure.querySelector(".plot"), svg: figure.querySelector("svg") };
});

const number = (value, unit) => (unit === "%" || unit === "points" ? (100 * value).toFixed(1) : value.toFixed(2));
function words(about, line, point) {
  const [layer, , value, low, high] = point;
  const unit = about.unit;
  const sign = unit === "points" && value >= 0 ? "+" : "";
  const range = low === null ? "" : ` [${number(low, unit)}, ${number(high, unit)}]`;
  return [line.name, layer, `${sign}${number(value, unit)} ${unit}${range}`];
}

const NS = "http://www.w3.org/2000/svg";
function point(chart, line, index) {
  unpoint(chart);
  const [x, y] = line.points[index];
  const ring = document.createElementNS(NS, "circle");
  for (const [name, value] of Object.entries({ cx: x, cy: y, r: 7, class: "here" })) ring.setAttribute(name, value);
  chart.svg.append(ring);
  for (const other of chart.lines) {
    other.group.classList.toggle("away", other !== line);
    other.group.classList.toggle("at", other === line);
  }
  const tip = document.createElement("div");
  tip.className = "tip";
  const texts = words(chart.about, line, line.p[index]);
  for (const text of texts) {
    const row = document.createElement("div");
    row.textContent = text;
    tip.append(row);
  }
  chart.plot.append(tip);
  const scale = chart.svg.clientWidth / 480;
  const left = Math.min(x * scale + 12, chart.plot.clientWidth - tip.offsetWidth - 2);
  tip.style.left = `${Math.max(0, left)}px`;
  tip.style.top = `${y * scale > tip.offsetHeight + 14 ? y * scale - tip.offsetHeight - 12 : y * scale + 14}px`;
  chart.at = [line, index];
  return texts.join(", ");
}
function unpoint(chart) {
  for (const old of $(".tip, .here", chart.plot)) old.remove();
  for (const line of chart.lines) line.group.classList.remove("away", "at");
}
const shown = (chart) => chart.lines.filter((line) => line.group.style.display !== "none" && line.kept.some(Boolean));
function nearest(chart, event) {
  const box = chart.svg.getBoundingClientRect();
  const px = ((event.clientX - box.left) * 480) / box.width;
  const py = ((event.clientY - box.top) * 480) / box.width;
  let best = [30 ** 2, null, 0];
  for (const line of shown(chart)) {
    line.points.forEach(([x, y], i) => {
      const across = line.level ? 0 : x - px;
      const far = across ** 2 + (y - py) ** 2;
      if (line.kept[i] && far < best[0]) best = [far, line, i];
    });
  }
  return best;
}
for (const chart of figures) {
  chart.plot.onpointermove = (event) => {
    const [, line, index] = nearest(chart, event);
    if (line === null) unpoint(chart);
    else point(chart, line, index);
  };
  chart.plot.onpointerleave = () => unpoint(chart);
  chart.plot.onblur = () => unpoint(chart);
  chart.plot.onkeydown = (event) => {
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    const lines = shown(chart);
    if (event.key === "Escape") return unpoint(chart);
    if (!(event.key in moves) || !lines.length) return undefined;
    event.preventDefault();
    const [down, along] = moves[event.key];
    let line = chart.at && lines.includes(chart.at[0]) ? chart.at[0] : lines[0];
    let index = chart.at && line === chart.at[0] ? chart.at[1] + along : 0;
    if (down) line = lines[(lines.indexOf(line) + down + lines.length) % lines.length];
    index = Math.max(0, Math.min(index, line.p.length - 1));
    while (!line.kept[index]) index = (index + (along || 1) + line.p.length) % line.p.length;
    status.textContent = point(chart, line, index);
    return undefined;
  };
}

// A line of fewer layers: its paths again, through the points that are left.
function redraw(chart, line) {
  const all = line.kept.every(Boolean);
  const [offset, factor] = chart.about.scale;
  const at = (which) => line.p.flatMap((p, i) => (line.kept[i] ? [`${p[1]} ${(offset + factor * p[which]).toFixed(1)}`] : []));
  const y = (value) => (offset + factor * value).toFixed(1);
  const whiskers = () => line.p.map((p, i) => (line.kept[i] ? `M${p[1]} ${y(p[3])}V${y(p[4])}` : "")).join("");
  for (const { path, d } of line.paths) {
    if (all || line.level) path.setAttribute("d", d);
    else if (path.classList.contains("whiskers")) path.setAttribute("d", whiskers());
    else if (path.classList.contains("band")) path.setAttribute("d", `M${at(4).join(" ")} ${at(3).reverse().join(" ")}Z`);
    else path.setAttribute("d", `M${at(2).join(" ")}`);
  }
}

// Filters.
const controls = Object.fromEntries($("[data-filter]").map((control) => [control.dataset.filter, control]));
const boxes = $("[data-backbone]");
const tables = $("table[data-filtered]").map((table) => {
  const heads = $("th", table.tHead).map((th) => th.dataset.column);
  const of = (row, name) => (heads.includes(name) ? row.cells[heads.indexOf(name)].textContent : null);
  const rows = [...table.tBodies[0].rows].map((row) => ({
    row, task: of(row, "task"), method: of(row, "method"), backbone: of(row, "backbone"),
    pool: of(row, "pool"), layer: of(row, "layer_shown") ?? of(row, "layer"),
  }));
  return { table, rows, caption: table.caption };
});
// A sentence is of the backbones that it names (the longest name that fits) and of the method it begins with.
const known = boxes.map((box) => box.dataset.backbone).sort((a, b) => b.length - a.length);
const methods = new Set(figures.map((chart) => chart.about.method).filter((method) => method && method !== "fine-tuning"));
const sentences = $("main li[data-sentence]").map((item) => {
  let text = item.textContent;
  const names = known.filter((name) => {
    const has = text.includes(name);
    if (has) text = text.split(name).join("");
    return has;
  });
  return { item, names, method: [...methods].find((name) => item.textContent.startsWith(name)) ?? null };
});
const set = (element, visible) => { if (element.hidden === visible) element.hidden = !visible; };
function apply() {
  const want = Object.fromEntries(Object.entries(controls).map(([name, control]) => [name, control.value]));
  const off = new Set(boxes.filter((box) => !box.checked).map((box) => box.dataset.backbone));
  const layer = want.layer.trim().toLowerCase();
  const has = (name) => !layer || (name ?? "").toLowerCase().includes(layer);
  const fits = (value, asked) => !asked || value === null || value === asked;
  for (const section of $("[data-task]")) set(section, fits(section.dataset.task, want.task));
  for (const chart of figures) {
    const { task, method, pool, metric } = chart.about;
    const tuning = method === "fine-tuning";
    const metricFits = metric === "gap" ? ["", "accuracy"].includes(want.metric) : task === null || fits(metric, want.metric);
    const poolFits = pool === "none" || fits(pool, want.pool);
    // The chart beside an answer stays what it is, whatever method, pooling and metric are asked for.
    const stays = chart.figure.closest(".answer") !== null;
    set(chart.figure, fits(task, want.task) && (stays || ((tuning || fits(method, want.method)) && poolFits && metricFits)));
    if (chart.figure.hidden) continue;
    unpoint(chart);
    for (const line of chart.lines) {
      const kept = line.p.map((p) => line.level || has(p[0]));
      const changed = kept.some((keep, i) => keep !== line.kept[i]);
      line.kept = kept;
      const display = off.has(line.b) || !kept.some(Boolean) ? "none" : "";
      if (line.group.style.display !== display) line.group.style.display = display;
      if (changed && display === "") redraw(chart, line);
    }
  }
  for (const part of $("[data-of]")) part.style.display = off.has(part.dataset.of) ? "none" : "";
  for (const { item, names, method } of sentences) {
    set(item, fits(method, want.method) && !names.some((name) => off.has(name)));
  }
  let count = 0;
  for (const { table, rows } of tables) {
    for (const entry of rows) {
      const poolFits = !want.pool || !entry.pool || entry.pool === "none" || entry.pool === want.pool;
      const visible = fits(entry.task, want.task) && fits(entry.method, want.method) && poolFits
        && !off.has(entry.backbone) && (entry.layer === null || has(entry.layer));
      set(entry.row, visible);
      count += visible && table.dataset.filtered === "layers";
    }
  }
  status.textContent = `${count} layers shown`;
}
let waiting = 0;
const later = () => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(apply);
};
for (const control of Object.values(controls)) control.oninput = later;
for (const box of boxes) box.onchange = later;
for (const button of $("[data-check]")) {
  button.onclick = () => {
    for (const box of boxes) box.checked = button.dataset.check === "all";
    apply();
  };
}

// Sorting: numbers by value (blanks last), text by name; a second press turns it round.
for (const button of $("th > button")) {
  button.onclick = () => {
    const th = button.parentElement;
    const table = th.closest("table");
    const down = th.getAttribute("aria-sort") === "ascending";
    for (const other of $("th[aria-sort]", table)) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => {
      const text = row.cells[th.cellIndex].textContent;
      const value = Number.parseFloat(text.replace(/,/g, "").replace("−", "-"));
      return { row, text, value };
    });
    const numeric = keyed.every(({ text, value }) => text === "" || (!Number.isNaN(value) && /^[-+\d]/.test(text)));
    const order = new Intl.Collator(undefined, { numeric: true }).compare;
    keyed.sort((a, b) => {
      if ((a.text === "") !== (b.text === "")) return a.text === "" ? 1 : -1;
      const sign = down ? -1 : 1;
      return sign * (numeric ? a.value - b.value : order(a.text, b.text));
    });
    body.append(...keyed.map(({ row }) => row));
    status.textContent = `sorted by ${button.textContent}`;
  };
}

apply();
status.textContent = "";
