"use strict";
// Draw the parameters of the runs and one result as parallel coordinates.
(() => {
  const host = document.getElementById("parallel-plot");
  if (!host) return;
  const { svg, axes, runs } = tracelet;
  const TOP = 42, BOTTOM = 14, SIDE = 56, MIN_GAP = 92, HEIGHT = 300, MAX_COLORED = 8;
  const { labels, params, results } = JSON.parse(document.getElementById("compared").textContent);
  const choice = document.getElementById("result"), clear = document.getElementById("clear");
  const brushes = new Map();
  const isNumber = (value) => typeof value === "number";
  let drawn = null;

  // Return an axis: `place(value)` is from 0 (bottom) to 1; `marks` are [place, text]. A missing value is below.
  function axis({ name, values }) {
    const present = values.filter((value) => value !== null);
    if (present.length && present.every(isNumber)) {
      const low = Math.min(...present), high = Math.max(...present);
      const logarithmic = low > 0 && high / low >= 50;
      const scale = logarithmic ? Math.log10 : (value) => value;
      const place = (value) => (high > low ? (scale(value) - scale(low)) / (scale(high) - scale(low)) : 0.5);
      const ticks = high > low ? (logarithmic ? axes.logarithmic : axes.ticks)(low, high, 5) : [low];
      const texts = (logarithmic ? axes.powers : axes.labels)(ticks, 0);
      return { name, values, place, marks: ticks.map((value, index) => [place(value), texts[index]]) };
    }
    const texts = [...new Set(present.map(String))].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
    const place = (value) => (texts.length > 1 ? texts.indexOf(String(value)) / (texts.length - 1) : 0.5);
    const every = Math.ceil(texts.length / 12);
    const marks = texts.filter((_, index) => index % every === 0).map((text) => [place(text), text]);
    return { name, values, place, marks };
  }

  function draw() {
    const columns = [...params.map(axis), axis(results[choice.value])];
    const width = Math.max(host.clientWidth - 26, 2 * SIDE + MIN_GAP * (columns.length - 1));
    const x = (column) => SIDE + (columns.length > 1 ? (column / (columns.length - 1)) * (width - 2 * SIDE) : 0);
    const y = (place) => (place === null ? HEIGHT - 3 : HEIGHT - BOTTOM - 8 - place * (HEIGHT - TOP - BOTTOM - 8));
    const placeOf = (column, run) => (column.values[run] === null ? null : column.place(column.values[run]));
    host.replaceChildren();
    const canvas = svg(host, "svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img",
      "aria-label": `Parallel coordinates of ${labels.length} runs: ${columns.map((column) => column.name).join(", ")}` });
    const last = columns[columns.length - 1];
    const order = labels.map((_, run) => run).sort((a, b) => (placeOf(last, a) ?? -1) - (placeOf(last, b) ?? -1));
    const lines = order.map((run) => {
      const points = columns.map((column, index) => `${x(index)},${y(placeOf(column, run))}`);
      const line = svg(canvas, "polyline", { points: points.join(" "), class: "run-line", "data-line": run });
      line.style.stroke = tracelet.gradient(placeOf(last, run) ?? 0);
      svg(line, "title", {}, `${labels[run]}\n${columns.map((column) => `${column.name}: ${column.values[run] ?? "not set"}`).join("\n")}`);
      line.addEventListener("pointerenter", () => runs.highlight(run));
      line.addEventListener("pointerleave", () => runs.highlight(null));
      return { run, line };
    });
    columns.forEach((column, index) => drawAxis(canvas, column, index, x, y, placeOf));
    drawn = { lines };
    show();
  }

  // With many runs, their results say more in the charts and the table than eight colors and dashes do.
  function colorRuns() {
    if (labels.length <= MAX_COLORED) return;
    const last = axis(results[choice.value]);
    const colorOf = (run) => tracelet.gradient(last.values[run] === null ? 0 : last.place(last.values[run]));
    document.querySelectorAll("#run-table tbody tr").forEach((row) => {
      const line = row.querySelector(".swatch line");
      line.setAttribute("class", "curve");
      line.style.color = colorOf(Number(row.dataset.run));
    });
    tracelet.colorBy(colorOf);
  }

  function drawAxis(canvas, column, index, x, y, placeOf) {
    const group = svg(canvas, "g", { class: "axis" }), shift = index % 2 ? 14 : 0;
    svg(group, "line", { x1: x(index), x2: x(index), y1: y(1), y2: y(0), class: "border" });
    const short = (text, limit) => (text.length > limit ? `${text.slice(0, limit - 1)}…` : text);
    const title = svg(group, "text", { x: x(index), y: 12 + shift, "text-anchor": "middle", class: "axis-title" }, short(column.name, 26));
    svg(title, "title", {}, column.name);
    column.marks.forEach(([place, text]) => {
      svg(group, "text", { x: x(index) - 5, y: y(place) + 4, "text-anchor": "end", class: "halo" }, short(text, 14));
    });
    const chosen = svg(group, "rect", { x: x(index) - 8, width: 16, y: 0, height: 0, class: "choice" });
    const area = svg(group, "rect", { x: x(index) - 12, width: 24, y: y(1) - 8, height: y(0) - y(1) + 16, class: "brush",
      tabindex: 0, role: "button", "aria-label": `Select runs by ${column.name}: arrow up raises the lower end, arrow down ` +
        "lowers the upper end, Escape clears" });
    svg(area, "title", {}, `Drag to select runs by ${column.name}`);
    const fit = () => {
      const range = brushes.get(column.name);
      chosen.setAttribute("y", range ? y(range[1]) : 0);
      chosen.setAttribute("height", range ? Math.max(y(range[0]) - y(range[1]), 2) : 0);
    };
    const placeAt = (event) => {
      const box = canvas.getBoundingClientRect(), top = event.clientY - box.top;
      return Math.min(Math.max((y(0) - top) / (y(0) - y(1)), -0.05), 1.05);
    };
    const select = (range) => {
      if (range) brushes.set(column.name, range); else brushes.delete(column.name);
      fit();
      runs.select(`axis ${column.name}`, range && ((run) => {
        const place = placeOf(column, run);
        return place !== null && place >= range[0] && place <= range[1];
      }));
    };
    area.addEventListener("keydown", (event) => {
      const [low, high] = brushes.get(column.name) || [-0.05, 1.05];
      if (event.key === "ArrowUp") select([Math.min(low + 0.1, high - 0.05), high]);
      else if (event.key === "ArrowDown") select([low, Math.max(high - 0.1, low + 0.05)]);
      else if (event.key === "Escape") select(null);
      else return;
      event.preventDefault();
    });
    let start = null;
    area.addEventListener("pointerdown", (event) => { start = placeAt(event); area.setPointerCapture(event.pointerId); });
    area.addEventListener("pointermove", (event) => {
      if (start !== null) select([start, placeAt(event)].sort((a, b) => a - b));
    });
    area.addEventListener("pointerup", (event) => {
      const moved = start !== null && Math.abs(placeAt(event) - start) > 0.01;
      start = null;
      if (!moved) select(null);
    });
    fit();
  }

  function show() {
    drawn.lines.forEach(({ run, line }) => line.classList.toggle("off", !runs.selected(run)));
    clear.hidden = brushes.size === 0;
  }

  function clearAll() {
    const names = [...brushes.keys()];
    brushes.clear();
    names.forEach((name) => runs.select(`axis ${name}`, null));
    draw();
  }

  clear.addEventListener("click", clearAll);
  choice.addEventListener("change", () => {
    results.forEach(({ name }) => { brushes.delete(name); runs.select(`axis ${name}`, null); });
    draw();
    colorRuns();
  });
  tracelet.isDark.addEventListener("change", () => { draw(); colorRuns(); });
  runs.onChange(show);
  colorRuns();
  let width = 0;
  new ResizeObserver(() => {
    if (host.clientWidth === width) return;
    width = host.clientWidth;
    draw();
  }).observe(host);
})();
