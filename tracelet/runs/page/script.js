"use strict";
// Draw the charts from the page's data. Text of a run is inserted as text, never as markup.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const MIN_CHARTS_TO_DRAW_LAZILY = 24;
  const options = { logarithmic: false };
  const byId = (id) => document.getElementById(id);

  function svg(parent, name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  function html(parent, name, className, text) {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  // Return the position of a value between two others, from 0 to 1. Halve first, since the span may overflow.
  const share = (value, low, high) => (high > low ? (value / 2 - low / 2) / (high / 2 - low / 2) : 0.5);
  const interpolate = (part, low, high) => low * (1 - part) + high * part;
  const format = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(8))) : String(value));

  function ticks(low, high, limit) {
    const rough = (high - low) / limit;
    if (!(rough > 0) || !Number.isFinite(rough)) return low === high ? [low] : [low, high];
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((part) => part * power).find((size) => size >= rough) || rough;
    const values = [];
    for (let n = Math.ceil(low / step); n * step <= high && values.length <= limit + 2; n++) values.push(n * step);
    return values.length > 1 ? values : [low, high];
  }

  function labels(values) {
    const gaps = values.slice(1).map((value, index) => Math.abs(value - values[index])).filter((gap) => gap > 0);
    const gap = Math.min(...gaps), largest = Math.max(...values.map(Math.abs));
    if (!Number.isFinite(gap)) return values.map((value) => String(Number(value.toPrecision(4))));
    if (largest >= 1e6 || (largest < 1e-3 && largest > 0)) {
      const digits = Math.min(Math.max(Math.ceil(Math.log10(largest / gap)), 0), 15);
      return values.map((value) => (value === 0 ? "0" : value.toExponential(digits).replace(/\.?0+e/, "e").replace("e+", "e")));
    }
    const decimals = Math.min(Math.max(-Math.floor(Math.log10(gap) + 1e-9), 0), 20);
    return values.map((value) => value.toFixed(decimals));
  }

  const steps = (value) => {
    const rounded = Math.round(value);
    for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (Math.abs(rounded) >= 10 * size && rounded % size === 0) return `${rounded / size}${letter}`;
    return Math.abs(rounded) < 1e15 ? String(rounded) : rounded.toExponential(3);
  };

  class Chart {
    constructor(figure, data, number) {
      this.figure = figure;
      this.number = number;
      this.axis = data.axis;
      this.plot = figure.querySelector(".plot");
      this.names = [data.title, ...data.curves.map((curve) => curve.name)].join("\n").toLowerCase();
      this.curves = data.curves.map((curve) => ({
        ...curve, step: curve.x, x: curve.x.map(Number), y: curve.y.map(Number), visible: true,
      }));
      this.view = null;
      this.cursor = null;
      this.drawn = false;
      const points = this.curves.reduce((sum, curve) => sum + curve.count, 0);
      this.label = `${data.title}: ${this.curves.length} curve${this.curves.length === 1 ? "" : "s"} of ${points} points. ` +
        "Arrow keys move between points.";
      this.reset = figure.querySelector(".reset");
      this.reset.addEventListener("click", () => this.zoom(null));
      const expand = figure.querySelector(".widen");
      expand.addEventListener("click", () => {
        const wide = figure.classList.toggle("wide");
        expand.setAttribute("aria-pressed", String(wide));
        expand.textContent = wide ? "Collapse" : "Expand";
        this.draw();
      });
      figure.querySelectorAll("ul button").forEach((button, index) => button.addEventListener("click", () => {
        const curve = this.curves[index];
        curve.visible = !curve.visible;
        button.setAttribute("aria-pressed", String(curve.visible));
        this.draw();
      }));
      this.canvas = svg(this.plot, "svg", { role: "img", tabindex: "0", "aria-label": this.label });
      this.tip = html(this.plot, "div", "tip");
      this.tip.setAttribute("role", "status");
      this.tip.hidden = true;
      this.listen();
    }

    get visibleCurves() { return this.curves.filter((curve) => curve.visible); }

    span() {
      if (this.view) return this.view;
      let low = Infinity, high = -Infinity;
      for (const curve of this.curves) for (const x of curve.x) { if (x < low) low = x; if (x > high) high = x; }
      return low <= high ? [low, high] : [0, 1];
    }

    drawable(y) { return Number.isFinite(y) && !(options.logarithmic && y <= 0); }

    valueRange([from, to]) {
      let low = Infinity, high = -Infinity;
      for (const curve of this.visibleCurves) curve.y.forEach((y, index) => {
        if (curve.x[index] < from || curve.x[index] > to || !this.drawable(y)) return;
        if (y < low) low = y;
        if (y > high) high = y;
      });
      if (low > high) return options.logarithmic ? [0.1, 1] : [0, 1];
      if (low === high) {
        const margin = Math.abs(low) / 10 || 1;
        return options.logarithmic ? [low / 2, Math.min(low * 2, Number.MAX_VALUE)] : [low - margin, high + margin];
      }
      // Start the axis at zero if it would start close to it.
      return !options.logarithmic && low > 0 && low < (high - low) / 10 ? [0, high] : [low, high];
    }

    draw() {
      this.drawn = true;
      const width = this.plot.clientWidth, height = this.plot.clientHeight;
      if (!width || !height) return;
      this.canvas.replaceChildren();
      this.canvas.setAttribute("viewBox", `0 0 ${width} ${height}`);
      const across = this.span(), up = this.valueRange(across);
      const scale = options.logarithmic ? Math.log10 : (value) => value;
      const [low, high] = up.map(scale);
      const values = options.logarithmic ? this.decades(low, high) : ticks(low, high, Math.max(3, height / 45));
      const texts = options.logarithmic
        ? values.map((value) => String(Number(Math.min(10 ** value, 1.79e308).toPrecision(3)))) : labels(values);
      const left = 8 + 6.6 * Math.max(2, ...texts.map((text) => text.length)), right = width - 10, top = 10, bottom = height - 20;
      const toX = (x) => left + share(x, ...across) * (right - left);
      const toY = (y) => bottom - (0.03 + 0.94 * share(scale(y), low, high)) * (bottom - top);
      this.frame = { left, right, top, bottom, across, toX, toY };
      values.forEach((value, index) => {
        const y = bottom - (0.03 + 0.94 * share(value, low, high)) * (bottom - top);
        svg(this.canvas, "line", { x1: left, x2: right, y1: y, y2: y, class: "grid" });
        svg(this.canvas, "text", { x: left - 5, y: y + 4, "text-anchor": "end" }, texts[index]);
      });
      this.drawSteps(across, width);
      svg(this.canvas, "line", { x1: left, x2: right, y1: bottom, y2: bottom, class: "border" });
      const clip = svg(this.canvas, "clipPath", { id: `clip${this.number}` });
      svg(clip, "rect", { x: left - 2, y: 0, width: Math.max(right - left + 4, 0), height: bottom + 2 });
      this.inside = svg(this.canvas, "g", { "clip-path": `url(#clip${this.number})` });
      this.visibleCurves.forEach((curve) => this.drawCurve(curve));
      this.over = svg(this.canvas, "g", {});
      this.reset.hidden = this.view === null;
      this.showValues(this.cursor);
    }

    decades(low, high) {
      const span = high - low, every = Math.max(1, Math.ceil(span / 5));
      let values = [];
      if (span < 0.7) values = ticks(10 ** low, Math.min(10 ** high, 1.79e308), 4).filter((value) => value > 0).map(Math.log10);
      if (values.length) return values;
      for (let power = Math.floor(low); power <= high; power += every)
        for (const part of span < 2 ? [1, 2, 5] : [1]) {
          const value = power + Math.log10(part);
          if (value >= low && value <= high) values.push(value);
        }
      return values.length ? values : [low, high];
    }

    drawSteps(across, width) {
      const whole = across[1] - across[0] >= 1;
      const values = ticks(...across, Math.max(2, Math.floor(width / 65)))
        .filter((value) => !whole || Math.abs(value - Math.round(value)) < 1e-6);
      const { bottom, toX } = this.frame;
      values.forEach((value) => {
        const x = toX(value), anchor = x > width - 24 ? "end" : "middle";
        svg(this.canvas, "text", { x: anchor === "end" ? width - 2 : x, y: bottom + 15, "text-anchor": anchor }, steps(value));
      });
    }

    drawCurve(curve) {
      const { left, right, top, bottom, toX, toY } = this.frame;
      const group = svg(this.inside, "g", { class: curve.style });
      let path = "", gap = true, length = 0;
      const spots = curve.x.length <= 40;
      curve.y.forEach((y, index) => {
        const x = toX(curve.x[index]);
        if (!this.drawable(y)) {
          if (path && length === 1) path += "h0";
          gap = true; length = 0;
          if (!Number.isFinite(y)) this.drawMark(group, x, y, curve, index);
          return;
        }
        path += `${gap ? "M" : "L"}${x.toFixed(2)} ${toY(y).toFixed(2)}`;
        length = gap ? 1 : length + 1;
        gap = false;
        if (spots) svg(group, "circle", { cx: x, cy: toY(y), r: 2.2, class: "spot" });
      });
      if (length === 1) path += "h0";
      svg(group, "path", { d: path, class: `curve ${curve.style}` });
    }

    drawMark(group, x, y, curve, index) {
      const { top, bottom } = this.frame;
      const [sign, height] = Number.isNaN(y) ? ["×", bottom - 2] : y > 0 ? ["▲", top + 4] : ["▼", bottom - 2];
      const mark = svg(group, "text", { x, y: height, class: "mark" }, sign);
      svg(mark, "title", {}, `${y} at ${this.axis} ${curve.step[index]}`);
    }

    // Return the index of the point closest to a position on the axis.
    nearest(curve, x) {
      let best = -1, distance = Infinity;
      curve.x.forEach((position, index) => {
        const difference = Math.abs(position - x);
        if (difference < distance) { best = index; distance = difference; }
      });
      return best;
    }

    showValues(x, height) {
      this.cursor = x;
      if (this.over) this.over.replaceChildren();
      this.tip.hidden = x === null;
      if (x === null) return;
      const { left, right, top, bottom, toX, toY } = this.frame;
      const rows = this.visibleCurves.map((curve) => ({ curve, index: this.nearest(curve, x) }))
        .filter((row) => row.index >= 0);
      if (!rows.length) { this.tip.hidden = true; return; }
      const position = Math.min(Math.max(toX(x), left), right);
      svg(this.over, "line", { x1: position, x2: position, y1: top, y2: bottom, class: "pointer" });
      rows.forEach((row) => {
        const y = row.curve.y[row.index];
        row.height = this.drawable(y) ? toY(y) : bottom;
        if (this.drawable(y)) svg(this.over, "circle", { cx: toX(row.curve.x[row.index]), cy: row.height, r: 4, class: `spot ${row.curve.style}` });
      });
      if (height !== undefined) rows.sort((a, b) => Math.abs(a.height - height) - Math.abs(b.height - height));
      this.showTip(rows, position);
    }

    showTip(rows, position) {
      this.tip.replaceChildren();
      const steps = new Set(rows.map((row) => String(row.curve.step[row.index])));
      if (steps.size === 1) html(this.tip, "div", "", `${this.axis} ${[...steps][0]}`);
      rows.slice(0, 8).forEach((row) => {
        const line = html(this.tip, "div", "");
        const name = html(line, "span", row.curve.style, this.curves.length > 1 ? row.curve.name : "");
        if (steps.size > 1) name.textContent += ` (${this.axis} ${row.curve.step[row.index]})`;
        html(line, "b", "", format(row.curve.y[row.index]));
      });
      if (rows.length > 8) html(this.tip, "div", "", `and ${rows.length - 8} more`);
      const rightHalf = position > this.plot.clientWidth / 2;
      this.tip.style.left = rightHalf ? "" : `${position + 10}px`;
      this.tip.style.right = rightHalf ? `${this.plot.clientWidth - position + 10}px` : "";
    }

    zoom(view) {
      const [low, high] = view || [0, 1];
      this.view = view && high > low ? view : null;
      this.cursor = null;
      this.draw();
    }

    eventX(event) {
      const box = this.canvas.getBoundingClientRect(), { left, right, across } = this.frame;
      return interpolate(Math.min(Math.max((event.clientX - box.left - left) / (right - left), 0), 1), ...across);
    }

    listen() {
      let start = null;
      this.canvas.addEventListener("pointerdown", (event) => {
        if (event.button !== 0 || event.pointerType === "touch" || !this.frame) return;
        start = this.eventX(event);
        this.canvas.setPointerCapture(event.pointerId);
      });
      this.canvas.addEventListener("pointermove", (event) => {
        if (!this.frame) return;
        const x = this.eventX(event);
        this.showValues(x, event.clientY - this.canvas.getBoundingClientRect().top);
        if (start === null) return;
        const { top, bottom, toX } = this.frame;
        const [from, to] = [toX(start), toX(x)].sort((a, b) => a - b);
        svg(this.over, "rect", { x: from, y: top, width: to - from, height: bottom - top, class: "choice" });
      });
      this.canvas.addEventListener("pointerup", (event) => {
        if (start === null) return;
        const { toX } = this.frame, x = this.eventX(event), selection = [Math.min(start, x), Math.max(start, x)];
        const dragged = Math.abs(toX(start) - toX(x)) > 6;
        start = null;
        if (dragged) this.zoom(selection); else this.showValues(x);
      });
      this.canvas.addEventListener("pointercancel", () => { start = null; });
      this.canvas.addEventListener("pointerleave", () => this.showValues(null));
      this.canvas.addEventListener("blur", () => this.showValues(null));
      this.canvas.addEventListener("dblclick", () => this.zoom(null));
      this.canvas.addEventListener("keydown", (event) => this.key(event));
    }

    key(event) {
      if (event.ctrlKey || event.altKey || event.metaKey || !this.frame) return;
      const [low, high] = this.frame.across, middle = this.cursor === null ? interpolate(0.5, low, high) : this.cursor;
      switch (event.key) {
        case "ArrowLeft": case "ArrowRight": case "Home": case "End": this.move(event.key); break;
        case "+": case "=": this.zoom([interpolate(0.5, low, middle), interpolate(0.5, middle, high)]); break;
        case "-": this.zoom(this.view && this.wider(low, high)); break;
        case "Escape": this.zoom(null); break;
        default: return;
      }
      event.preventDefault();
    }

    wider(low, high) {
      const view = this.view;
      this.view = null;
      const [first, last] = this.span();
      this.view = view;
      const wide = [Math.max(low - (high - low) / 2, first), Math.min(high + (high - low) / 2, last)];
      return wide[0] <= first && wide[1] >= last ? null : wide;
    }

    move(key) {
      const [low, high] = this.frame.across;
      const positions = [...new Set(this.visibleCurves.flatMap((curve) => curve.x))].filter((x) => x >= low && x <= high).sort((a, b) => a - b);
      if (!positions.length) return;
      const now = this.cursor;
      let next = key === "Home" ? positions[0] : positions[positions.length - 1];
      if (key === "ArrowRight") next = positions.find((x) => now === null || x > now) ?? next;
      if (key === "ArrowLeft") next = now === null ? next : positions.filter((x) => x < now).pop() ?? positions[0];
      this.showValues(next);
    }
  }

  function drawCharts() {
    const data = JSON.parse(byId("charts").textContent);
    const figures = document.querySelectorAll("figure.chart");
    const charts = data.map((chart, index) => new Chart(figures[index], chart, index));
    const visible = () => charts.filter((chart) => chart.drawn && !chart.figure.hidden);
    const chartOf = new Map(charts.map((chart) => [chart.figure, chart]));
    if (charts.length >= MIN_CHARTS_TO_DRAW_LAZILY && "IntersectionObserver" in window) {
      const observer = new IntersectionObserver((entries) => entries.forEach((entry) => {
        if (entry.isIntersecting) chartOf.get(entry.target).draw();
      }), { rootMargin: "400px" });
      charts.forEach((chart) => observer.observe(chart.figure));
      addEventListener("beforeprint", () => charts.forEach((chart) => chart.draw()));
    } else charts.forEach((chart) => chart.draw());
    let request = 0;
    addEventListener("resize", () => {
      cancelAnimationFrame(request);
      request = requestAnimationFrame(() => visible().forEach((chart) => chart.draw()));
    });
    const logarithmic = byId("logarithmic"), filter = byId("filter");
    if (!logarithmic) return;
    const setScale = () => {
      options.logarithmic = logarithmic.checked;
      visible().forEach((chart) => chart.draw());
    };
    const setFilter = () => {
      const text = filter.value.trim().toLowerCase();
      let count = 0;
      charts.forEach((chart) => {
        chart.figure.hidden = !chart.names.includes(text);
        count += chart.figure.hidden ? 0 : 1;
        if (!chart.figure.hidden && chart.drawn) chart.draw();
      });
      byId("found").textContent = text ? `${count} of ${charts.length} charts` : "";
    };
    logarithmic.addEventListener("change", setScale);
    filter.addEventListener("input", setFilter);
    // Browsers restore the controls of a page that was open before.
    if (logarithmic.checked) setScale();
    if (filter.value) setFilter();
  }

  // Show one step at a time. Without this script, all steps are visible.
  function addSlider(reel) {
    const frames = [...reel.querySelectorAll(".frame")];
    if (frames.length < 2) return;
    const label = html(reel, "label", "");
    const slider = html(label, "input", "");
    Object.assign(slider, { type: "range", min: 0, max: frames.length - 1, step: 1, autocomplete: "off" });
    slider.value = String(frames.length - 1);
    slider.setAttribute("aria-label", `Step of ${reel.querySelector("h3").textContent}`);
    const output = html(label, "output", "");
    const show = () => {
      frames.forEach((frame, index) => { frame.hidden = index !== Number(slider.value); });
      const step = `step ${frames[slider.value].dataset.step}`;
      output.textContent = `${Number(slider.value) + 1} of ${frames.length}`;
      slider.setAttribute("aria-valuetext", step);
    };
    slider.addEventListener("input", show);
    show();
  }

  drawCharts();
  document.querySelectorAll(".reel").forEach(addSlider);
})();
