"use strict";
// Draws the charts from the page's own data. Whatever comes from a run is set as text, never as markup.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const LEAST_TO_DRAW_LATER = 24;
  const options = { logarithmic: false };
  const byId = (id) => document.getElementById(id);

  function svg(parent, name, attributes, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  function html(parent, name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  // Where a value lies between two others. Halved first: the span may be beyond the largest number.
  const share = (value, low, high) => (high > low ? (value / 2 - low / 2) / (high / 2 - low / 2) : 0.5);
  const between = (part, low, high) => low * (1 - part) + high * part;
  const shown = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(8))) : String(value));

  function ticks(low, high, most) {
    const rough = (high - low) / most;
    if (!(rough > 0) || !Number.isFinite(rough)) return low === high ? [low] : [low, high];
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((part) => part * power).find((one) => one >= rough) || rough;
    const found = [];
    for (let at = Math.ceil(low / step); at * step <= high && found.length <= most + 2; at++) found.push(at * step);
    return found.length > 1 ? found : [low, high];
  }

  function labels(values) {
    const gaps = values.slice(1).map((value, at) => Math.abs(value - values[at])).filter((gap) => gap > 0);
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
        "Arrow keys move from point to point.";
      this.reset = figure.querySelector(".reset");
      this.reset.addEventListener("click", () => this.look(null));
      const widen = figure.querySelector(".widen");
      widen.addEventListener("click", () => {
        const wide = figure.classList.toggle("wide");
        widen.setAttribute("aria-pressed", String(wide));
        widen.textContent = wide ? "Narrow" : "Widen";
        this.draw();
      });
      figure.querySelectorAll("ul button").forEach((button, at) => button.addEventListener("click", () => {
        const curve = this.curves[at];
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

    get seen() { return this.curves.filter((curve) => curve.visible); }

    span() {
      if (this.view) return this.view;
      let low = Infinity, high = -Infinity;
      for (const curve of this.curves) for (const x of curve.x) { if (x < low) low = x; if (x > high) high = x; }
      return low <= high ? [low, high] : [0, 1];
    }

    drawable(y) { return Number.isFinite(y) && !(options.logarithmic && y <= 0); }

    height([from, to]) {
      let low = Infinity, high = -Infinity;
      for (const curve of this.seen) curve.y.forEach((y, at) => {
        if (curve.x[at] < from || curve.x[at] > to || !this.drawable(y)) return;
        if (y < low) low = y;
        if (y > high) high = y;
      });
      if (low > high) return options.logarithmic ? [0.1, 1] : [0, 1];
      if (low === high) {
        const room = Math.abs(low) / 10 || 1;
        return options.logarithmic ? [low / 2, Math.min(low * 2, Number.MAX_VALUE)] : [low - room, high + room];
      }
      // An axis that almost begins at zero begins there.
      return !options.logarithmic && low > 0 && low < (high - low) / 10 ? [0, high] : [low, high];
    }

    draw() {
      this.drawn = true;
      const width = this.plot.clientWidth, height = this.plot.clientHeight;
      if (!width || !height) return;
      this.canvas.replaceChildren();
      this.canvas.setAttribute("viewBox", `0 0 ${width} ${height}`);
      const across = this.span(), up = this.height(across);
      const scale = options.logarithmic ? Math.log10 : (value) => value;
      const [low, high] = up.map(scale);
      const values = options.logarithmic ? this.decades(low, high) : ticks(low, high, Math.max(3, height / 45));
      const words = options.logarithmic
        ? values.map((value) => String(Number(Math.min(10 ** value, 1.79e308).toPrecision(3)))) : labels(values);
      const left = 8 + 6.6 * Math.max(2, ...words.map((word) => word.length)), right = width - 10, top = 10, bottom = height - 20;
      const toX = (x) => left + share(x, ...across) * (right - left);
      const toY = (y) => bottom - (0.03 + 0.94 * share(scale(y), low, high)) * (bottom - top);
      this.frame = { left, right, top, bottom, across, toX, toY };
      values.forEach((value, at) => {
        const y = bottom - (0.03 + 0.94 * share(value, low, high)) * (bottom - top);
        svg(this.canvas, "line", { x1: left, x2: right, y1: y, y2: y, class: "grid" });
        svg(this.canvas, "text", { x: left - 5, y: y + 4, "text-anchor": "end" }, words[at]);
      });
      this.drawSteps(across, width);
      svg(this.canvas, "line", { x1: left, x2: right, y1: bottom, y2: bottom, class: "border" });
      const clip = svg(this.canvas, "clipPath", { id: `clip${this.number}` });
      svg(clip, "rect", { x: left - 2, y: 0, width: Math.max(right - left + 4, 0), height: bottom + 2 });
      this.inside = svg(this.canvas, "g", { "clip-path": `url(#clip${this.number})` });
      this.seen.forEach((curve) => this.drawCurve(curve));
      this.over = svg(this.canvas, "g", {});
      this.reset.hidden = this.view === null;
      this.point(this.cursor);
    }

    decades(low, high) {
      const span = high - low, every = Math.max(1, Math.ceil(span / 5));
      let found = [];
      if (span < 0.7) found = ticks(10 ** low, Math.min(10 ** high, 1.79e308), 4).filter((value) => value > 0).map(Math.log10);
      if (found.length) return found;
      for (let at = Math.floor(low); at <= high; at += every)
        for (const part of span < 2 ? [1, 2, 5] : [1]) {
          const place = at + Math.log10(part);
          if (place >= low && place <= high) found.push(place);
        }
      return found.length ? found : [low, high];
    }

    drawSteps(across, width) {
      const whole = across[1] - across[0] >= 1;
      const places = ticks(...across, Math.max(2, Math.floor(width / 65))).filter((at) => !whole || Math.abs(at - Math.round(at)) < 1e-6);
      const { bottom, toX } = this.frame;
      places.forEach((place) => {
        const x = toX(place), anchor = x > width - 24 ? "end" : "middle";
        svg(this.canvas, "text", { x: anchor === "end" ? width - 2 : x, y: bottom + 15, "text-anchor": anchor }, steps(place));
      });
    }

    drawCurve(curve) {
      const { left, right, top, bottom, toX, toY } = this.frame;
      const group = svg(this.inside, "g", { class: curve.style });
      let path = "", apart = true, alone = 0;
      const spots = curve.x.length <= 40;
      curve.y.forEach((y, at) => {
        const x = toX(curve.x[at]);
        if (!this.drawable(y)) {
          if (path && alone === 1) path += "h0";
          apart = true; alone = 0;
          if (!Number.isFinite(y)) this.drawMark(group, x, y, curve, at);
          return;
        }
        path += `${apart ? "M" : "L"}${x.toFixed(2)} ${toY(y).toFixed(2)}`;
        alone = apart ? 1 : alone + 1;
        apart = false;
        if (spots) svg(group, "circle", { cx: x, cy: toY(y), r: 2.2, class: "spot" });
      });
      if (alone === 1) path += "h0";
      svg(group, "path", { d: path, class: `curve ${curve.style}` });
    }

    drawMark(group, x, y, curve, at) {
      const { top, bottom } = this.frame;
      const [sign, height] = Number.isNaN(y) ? ["×", bottom - 2] : y > 0 ? ["▲", top + 4] : ["▼", bottom - 2];
      const mark = svg(group, "text", { x, y: height, class: "mark" }, sign);
      svg(mark, "title", {}, `${y} at ${this.axis} ${curve.step[at]}`);
    }

    // The point of a curve that is nearest to a place on the axis.
    nearest(curve, x) {
      let best = -1, distance = Infinity;
      curve.x.forEach((one, at) => {
        const far = Math.abs(one - x);
        if (far < distance) { best = at; distance = far; }
      });
      return best;
    }

    point(x, height) {
      this.cursor = x;
      if (this.over) this.over.replaceChildren();
      this.tip.hidden = x === null;
      if (x === null) return;
      const { left, right, top, bottom, toX, toY } = this.frame;
      const rows = this.seen.map((curve) => ({ curve, at: this.nearest(curve, x) })).filter((row) => row.at >= 0);
      if (!rows.length) { this.tip.hidden = true; return; }
      const place = Math.min(Math.max(toX(x), left), right);
      svg(this.over, "line", { x1: place, x2: place, y1: top, y2: bottom, class: "pointer" });
      rows.forEach((row) => {
        const y = row.curve.y[row.at];
        row.height = this.drawable(y) ? toY(y) : bottom;
        if (this.drawable(y)) svg(this.over, "circle", { cx: toX(row.curve.x[row.at]), cy: row.height, r: 4, class: `spot ${row.curve.style}` });
      });
      if (height !== undefined) rows.sort((one, two) => Math.abs(one.height - height) - Math.abs(two.height - height));
      this.tell(rows, place);
    }

    tell(rows, place) {
      this.tip.replaceChildren();
      const told = new Set(rows.map((row) => String(row.curve.step[row.at])));
      if (told.size === 1) html(this.tip, "div", "", `${this.axis} ${[...told][0]}`);
      rows.slice(0, 8).forEach((row) => {
        const line = html(this.tip, "div", "");
        const name = html(line, "span", row.curve.style, this.curves.length > 1 ? row.curve.name : "");
        if (told.size > 1) name.textContent += ` (${this.axis} ${row.curve.step[row.at]})`;
        html(line, "b", "", shown(row.curve.y[row.at]));
      });
      if (rows.length > 8) html(this.tip, "div", "", `and ${rows.length - 8} more`);
      const far = place > this.plot.clientWidth / 2;
      this.tip.style.left = far ? "" : `${place + 10}px`;
      this.tip.style.right = far ? `${this.plot.clientWidth - place + 10}px` : "";
    }

    look(view) {
      const [low, high] = view || [0, 1];
      this.view = view && high > low ? view : null;
      this.cursor = null;
      this.draw();
    }

    at(event) {
      const box = this.canvas.getBoundingClientRect(), { left, right, across } = this.frame;
      return between(Math.min(Math.max((event.clientX - box.left - left) / (right - left), 0), 1), ...across);
    }

    listen() {
      let begun = null;
      this.canvas.addEventListener("pointerdown", (event) => {
        if (event.button !== 0 || event.pointerType === "touch" || !this.frame) return;
        begun = this.at(event);
        this.canvas.setPointerCapture(event.pointerId);
      });
      this.canvas.addEventListener("pointermove", (event) => {
        if (!this.frame) return;
        const x = this.at(event);
        this.point(x, event.clientY - this.canvas.getBoundingClientRect().top);
        if (begun === null) return;
        const { top, bottom, toX } = this.frame;
        const [from, to] = [toX(begun), toX(x)].sort((one, two) => one - two);
        svg(this.over, "rect", { x: from, y: top, width: to - from, height: bottom - top, class: "choice" });
      });
      this.canvas.addEventListener("pointerup", (event) => {
        if (begun === null) return;
        const { toX } = this.frame, x = this.at(event), chosen = [Math.min(begun, x), Math.max(begun, x)];
        const far = Math.abs(toX(begun) - toX(x)) > 6;
        begun = null;
        if (far) this.look(chosen); else this.point(x);
      });
      this.canvas.addEventListener("pointercancel", () => { begun = null; });
      this.canvas.addEventListener("pointerleave", () => this.point(null));
      this.canvas.addEventListener("blur", () => this.point(null));
      this.canvas.addEventListener("dblclick", () => this.look(null));
      this.canvas.addEventListener("keydown", (event) => this.key(event));
    }

    key(event) {
      if (event.ctrlKey || event.altKey || event.metaKey || !this.frame) return;
      const [low, high] = this.frame.across, middle = this.cursor === null ? between(0.5, low, high) : this.cursor;
      switch (event.key) {
        case "ArrowLeft": case "ArrowRight": case "Home": case "End": this.move(event.key); break;
        case "+": case "=": this.look([between(0.5, low, middle), between(0.5, middle, high)]); break;
        case "-": this.look(this.view && this.wider(low, high)); break;
        case "Escape": this.look(null); break;
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
      const places = [...new Set(this.seen.flatMap((curve) => curve.x))].filter((x) => x >= low && x <= high).sort((a, b) => a - b);
      if (!places.length) return;
      const now = this.cursor;
      let next = key === "Home" ? places[0] : places[places.length - 1];
      if (key === "ArrowRight") next = places.find((x) => now === null || x > now) ?? next;
      if (key === "ArrowLeft") next = now === null ? next : places.filter((x) => x < now).pop() ?? places[0];
      this.point(next);
    }
  }

  function drawCharts() {
    const data = JSON.parse(byId("charts").textContent);
    const figures = document.querySelectorAll("figure.chart");
    const charts = data.map((one, at) => new Chart(figures[at], one, at));
    const visible = () => charts.filter((chart) => chart.drawn && !chart.figure.hidden);
    const owners = new Map(charts.map((chart) => [chart.figure, chart]));
    if (charts.length >= LEAST_TO_DRAW_LATER && "IntersectionObserver" in window) {
      const seer = new IntersectionObserver((entries) => entries.forEach((entry) => {
        if (entry.isIntersecting) owners.get(entry.target).draw();
      }), { rootMargin: "400px" });
      charts.forEach((chart) => seer.observe(chart.figure));
      addEventListener("beforeprint", () => charts.forEach((chart) => chart.draw()));
    } else charts.forEach((chart) => chart.draw());
    let asked = 0;
    addEventListener("resize", () => {
      cancelAnimationFrame(asked);
      asked = requestAnimationFrame(() => visible().forEach((chart) => chart.draw()));
    });
    const logarithmic = byId("logarithmic"), filter = byId("filter");
    if (!logarithmic) return;
    const scaled = () => {
      options.logarithmic = logarithmic.checked;
      visible().forEach((chart) => chart.draw());
    };
    const filtered = () => {
      const wanted = filter.value.trim().toLowerCase();
      let found = 0;
      charts.forEach((chart) => {
        chart.figure.hidden = !chart.names.includes(wanted);
        found += chart.figure.hidden ? 0 : 1;
        if (!chart.figure.hidden && chart.drawn) chart.draw();
      });
      byId("found").textContent = wanted ? `${found} of ${charts.length} charts` : "";
    };
    logarithmic.addEventListener("change", scaled);
    filter.addEventListener("input", filtered);
    // What a browser remembers of a page that was open before.
    if (logarithmic.checked) scaled();
    if (filter.value) filtered();
  }

  // Without this script, all steps stand below each other.
  function windReel(reel) {
    const frames = [...reel.querySelectorAll(".frame")];
    if (frames.length < 2) return;
    const label = html(reel, "label", "");
    const slider = html(label, "input", "");
    Object.assign(slider, { type: "range", min: 0, max: frames.length - 1, step: 1, autocomplete: "off" });
    slider.value = String(frames.length - 1);
    slider.setAttribute("aria-label", `Step of ${reel.querySelector("h3").textContent}`);
    const told = html(label, "output", "");
    const show = () => {
      frames.forEach((frame, at) => { frame.hidden = at !== Number(slider.value); });
      const step = `step ${frames[slider.value].dataset.step}`;
      told.textContent = `${Number(slider.value) + 1} of ${frames.length}`;
      slider.setAttribute("aria-valuetext", step);
    };
    slider.addEventListener("input", show);
    show();
  }

  drawCharts();
  document.querySelectorAll(".reel").forEach(windReel);
})();
