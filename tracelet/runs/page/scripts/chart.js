"use strict";
// Draw a chart with uPlot, and answer the pointer and the keyboard.
tracelet.Chart = (() => {
  const { html, number, bytes, axes, curves } = tracelet;
  const MAX_SPOTS = 40, MAX_ROWS = 8, MANY = 8;
  const FONT = "11px system-ui, sans-serif";
  const DASHES = [[], [7, 4], [2, 4], [9, 3, 2, 3]];

  return class Chart {
    constructor(figure, data, settings) {
      Object.assign(this, { figure, data, settings, plot: null, zoomed: false, row: null, marks: [] });
      this.host = figure.querySelector(".plot");
      this.names = [data.title, ...data.curves.map((curve) => curve.name)];
      this.curves = data.curves.map((curve) => ({ ...curve, y: curve.y.map(Number), visible: true }));
      this.scale();
      const count = this.curves.reduce((sum, curve) => sum + curve.count, 0);
      this.host.setAttribute("aria-label", `${data.title}: ${this.curves.length} curve${this.curves.length === 1 ? "" : "s"} ` +
        `of ${count} points. Arrow keys move between points.`);
      Object.assign(this.host, { tabIndex: 0 }).setAttribute("role", "img");
      this.tip = html(this.host, "div", "tip");
      this.tip.setAttribute("role", "status");
      this.tip.hidden = true;
      this.listen();
    }

    listen() {
      const button = (name, act) => this.figure.querySelector(name)?.addEventListener("click", act);
      button(".reset", () => this.zoom(null));
      button(".csv", () => this.download());
      button(".widen", ({ currentTarget }) => {
        const wide = this.figure.classList.toggle("wide");
        currentTarget.setAttribute("aria-pressed", String(wide));
        currentTarget.textContent = wide ? "Collapse" : "Expand";
        this.resize();
      });
      this.figure.querySelectorAll("ul button").forEach((toggle, index) => toggle.addEventListener("click", () => {
        this.curves[index].visible = toggle.getAttribute("aria-pressed") !== "true";
        toggle.setAttribute("aria-pressed", String(this.curves[index].visible));
        this.showCurves();
      }));
      this.host.addEventListener("keydown", (event) => this.key(event));
      this.host.addEventListener("blur", () => this.moveTo(null));
    }

    // uPlot's axes end at 1e±32. Curves beyond are drawn in units of a power of ten, and labelled in ones.
    scale() {
      let largest = 0;
      for (const curve of this.curves) for (const y of curve.y) if (Number.isFinite(y)) largest = Math.max(largest, Math.abs(y));
      const exponent = largest > 0 ? Math.floor(Math.log10(largest)) : 0;
      this.exponent = Math.abs(exponent) > 20 ? Math.max(-300, Math.min(exponent, 300)) : 0;
      const scaled = (y) => (this.exponent ? y / 10 ** this.exponent : y);
      for (const curve of this.curves) {
        curve.scaled = curve.y.map(scaled);
        curve.means = curve.m && curve.m.map((mean) => (mean === null ? null : scaled(mean)));
      }
    }

    get axis() { return this.data.axis === "point" && this.settings.axis === "step" ? "point" : this.settings.axis; }

    build() {
      const { logarithmic, axis } = this.settings;
      if (!this.host.clientWidth) return;
      this.plot?.destroy();
      this.row = null;
      this.tip.hidden = true;
      const drawable = (y) => (Number.isFinite(y) && !(logarithmic && y <= 0) ? y : null);
      this.lines = this.curves.flatMap((curve, index) => curves.lines(curve, index, this.settings, drawable));
      this.marks = this.curves.flatMap((curve) => {
        const x = curves.positions(curve, axis);
        return curve.y.flatMap((y, point) => (Number.isFinite(y) ? [] : [{ curve, x: x[point], y }]));
      });
      const styles = getComputedStyle(this.figure);
      this.ink = (name) => styles.getPropertyValue(`--${name}`).trim();
      this.plot = new uPlot(this.options(), curves.align(this.lines), this.host);
      this.setReset(false);
    }

    options() {
      const grid = { stroke: this.ink("faint"), width: 1 }, stroke = this.ink("soft");
      const focus = this.curves.length > MANY ? { prox: 24 } : undefined;
      return {
        width: this.host.clientWidth, height: this.host.clientHeight, padding: [8, 14, 0, 0], legend: { show: false },
        scales: {
          x: { time: false, range: (_, low, high) => this.across(low, high) },
          y: { distr: this.settings.logarithmic ? 3 : 1, range: (_, low, high) => this.up(low, high) },
        },
        axes: [
          { stroke, font: FONT, size: 26, gap: 4, grid: { show: false }, ticks: { stroke: this.ink("line"), size: 4 },
            splits: (plot, _, low, high) => this.columns(low, high, Math.max(2, Math.floor(plot.width / (this.settings.axis === "step" ? 62 : 85)))),
            values: (_, values) => this.columnLabels(values) },
          { stroke, font: FONT, gap: 4, grid, ticks: { show: false }, filter: (_, values) => values,
            size: (_, texts) => 14 + 6.4 * Math.max(2, ...(texts || []).map((text) => text.length)),
            splits: (plot, _, low, high) => this.rows(low, high, Math.max(3, Math.floor(plot.height / 32))),
            values: (_, values) => this.rowLabels(values) },
        ],
        series: [{}, ...this.lines.map((line) => this.series(line))],
        cursor: {
          y: false, drag: { x: true, y: false, dist: 6 }, points: { size: 7 }, focus,
          dataIdx: (plot, series, row) => this.nearest(plot.data[series], row),
        },
        focus: { alpha: 0.25 },
        hooks: {
          draw: [(plot) => this.drawMarks(plot)],
          setCursor: [(plot) => this.showTip(plot)],
          setScale: [(plot, key) => key === "x" && this.setReset(this.isZoomed(plot))],
        },
      };
    }

    // Return the color of a curve: its own, or that of its run's result.
    color(curve) { return this.settings.colorOf?.(curve.color) ?? this.ink(tracelet.colors(curve.color)); }

    series(line) {
      const { curve } = line, faint = this.settings.smoothing > 0 && !line.smooth;
      const color = this.color(curve);
      const lone = this.lone(line);
      return {
        show: curve.visible, width: faint ? 1 : 1.6, stroke: faint ? `${color}48` : color,
        dash: this.settings.colorOf ? [] : DASHES[tracelet.dashes(curve.color)],
        points: { show: !line.smooth && line.points.length <= MAX_SPOTS, size: 5, fill: faint ? `${color}48` : color,
          filter: (plot, _, show) => (show ? null : lone(plot)) },
      };
    }

    // Return the rows of points that have a gap on both sides, which a line would not show.
    lone(line) {
      let found;
      return () => {
        found ??= [...line.rows].filter(([, index], place, all) => line.values[index] !== null &&
          [place - 1, place + 1].every((other) => !all[other] || line.values[all[other][1]] === null)).map(([row]) => row);
        return found;
      };
    }

    across(low, high) {
      if (low === null || low === undefined || !(low <= high)) return [0, 1];
      if (low === high) {
        const margin = Math.max(1, Math.abs(low) * 1e-9);
        return [low - margin, high + margin];
      }
      return this.settings.axis === "step" && low > 0 && low < (high - low) / 10 ? [0, high] : [low, high];
    }

    up(low, high) {
      const { logarithmic } = this.settings;
      if (low === null || low === undefined || !(low <= high)) return logarithmic ? [0.1, 1] : [0, 1];
      if (logarithmic) {
        const margin = low === high ? 2 : (high / low) ** 0.04;
        return [low / margin, high * margin];
      }
      const margin = low === high ? Math.abs(low) / 10 || 1 : (high - low) * 0.04;
      // Start the axis at zero if it would start close to it.
      return low >= 0 && low < (high - low) / 10 ? [0, high + margin] : [low - margin, high + margin];
    }

    columns(low, high, limit) {
      if (this.settings.axis === "relative") return axes.durations(low, high, limit);
      if (this.settings.axis === "step") return axes.whole(low, high, limit);
      const offset = new Date(low * 1000).getTimezoneOffset() * 60 || 0;
      return axes.durations(low - offset, high - offset, limit).map((value) => value + offset);
    }

    columnLabels(values) {
      if (this.settings.axis === "relative") return values.map(tracelet.duration);
      return this.settings.axis === "wall" ? axes.times(values) : values.map(axes.step);
    }

    rows(low, high, limit) {
      if (this.settings.logarithmic) return axes.logarithmic(low, high, limit);
      return (this.data.unit === "bytes" ? axes.binary : axes.ticks)(low, high, limit);
    }

    rowLabels(values) {
      if (this.data.unit === "bytes") return values.map(bytes);
      return (this.settings.logarithmic ? axes.powers : axes.labels)(values, this.exponent);
    }

    // Mark NaN and the infinities, which have no place on the axis.
    drawMarks({ ctx, bbox, valToPos }) {
      ctx.save();
      Object.assign(ctx, { font: `${12 * uPlot.pxRatio}px sans-serif`, textAlign: "center", textBaseline: "middle" });
      for (const { curve, x, y } of this.marks) {
        const left = valToPos(x, "x", true);
        if (!curve.visible || !(left >= bbox.left - 1 && left <= bbox.left + bbox.width + 1)) continue;
        const [sign, top] = Number.isNaN(y) ? ["×", bbox.top + bbox.height - 7] : y > 0 ? ["▲", bbox.top + 7] : ["▼", bbox.top + bbox.height - 7];
        ctx.fillStyle = this.color(curve);
        ctx.fillText(sign, left, top);
      }
      ctx.restore();
    }

    // Return the row closest to another that a line has a point in.
    nearest(column, row) {
      for (let distance = 0; distance < column.length; distance++)
        for (const other of [row - distance, row + distance]) if (column[other] !== undefined) return other;
      return null;
    }

    showTip({ cursor, data, valToPos }) {
      const { left, top, idx } = cursor;
      this.tip.hidden = !(left >= 0) || idx === null || idx === undefined;
      if (this.tip.hidden) return;
      const found = new Map();
      this.lines.forEach((line, index) => {
        const row = this.nearest(data[index + 1], idx);
        if (!line.curve.visible || row === null) return;
        const distance = Math.abs(data[0][row] - data[0][idx]), before = found.get(line.curve) || {};
        const kind = line.smooth ? "smooth" : "raw";
        if (before[kind] && before[kind].distance <= distance) return;
        found.set(line.curve, { ...before, [kind]: { line, row, distance, value: data[index + 1][row] } });
      });
      const places = [...found.values()].filter((place) => place.raw);
      const height = ({ raw, smooth }) => valToPos((smooth ?? raw).value ?? 0, "y");
      if (top > 0) places.sort((a, b) => Math.abs(height(a) - top) - Math.abs(height(b) - top));
      this.writeTip(places, left);
    }

    writeTip(places, left) {
      this.tip.replaceChildren();
      const at = ({ raw }) => this.place(raw.line.curve, raw.line.rows.get(raw.row));
      const shared = new Set(places.map(at));
      if (shared.size === 1) html(this.tip, "div", "", [...shared][0]);
      for (const place of places.slice(0, MAX_ROWS)) {
        const { line, row } = place.raw, entry = html(this.tip, "div", "");
        const name = html(entry, "span", "", this.curves.length > 1 ? line.curve.name : "");
        name.style.color = this.color(line.curve);
        if (shared.size > 1) name.textContent += ` (${at(place)})`;
        const value = this.value(line.curve.y[line.rows.get(row)]), smooth = place.smooth;
        html(entry, "b", "", smooth && smooth.value !== null && smooth.value !== undefined
          ? `${this.value(smooth.value * 10 ** this.exponent, 4)} (${value})` : value);
      }
      if (places.length > MAX_ROWS) html(this.tip, "div", "", `and ${places.length - MAX_ROWS} more`);
      const edge = left + this.plot.over.offsetLeft, right = edge > this.host.clientWidth / 2;
      this.tip.style.left = right ? "" : `${edge + 12}px`;
      this.tip.style.right = right ? `${this.host.clientWidth - edge + 12}px` : "";
    }

    value(y, digits) {
      if (this.data.unit === "bytes") return bytes(y);
      return digits && Number.isFinite(y) ? String(Number(y.toPrecision(digits))) : number(y);
    }

    place(curve, point) {
      if (this.axis === "relative") return tracelet.duration(curve.t[point] / 1000);
      return this.axis === "wall" ? tracelet.moment(curve.start + curve.t[point] / 1000) : `${this.axis} ${curve.x[point]}`;
    }

    isZoomed({ data, scales }) {
      const column = data[0], [low, high] = this.across(column[0], column[column.length - 1]);
      return column.length > 0 && (scales.x.min > low || scales.x.max < high);
    }

    setReset(zoomed) {
      const reset = this.figure.querySelector(".reset");
      if (reset) reset.hidden = !zoomed;
    }

    zoom(view) {
      const column = this.plot.data[0], [low, high] = this.across(column[0], column[column.length - 1]);
      const [min, max] = view ? [Math.max(view[0], low), Math.min(view[1], high)] : [low, high];
      if (max > min) this.plot.setScale("x", { min, max });
    }

    showCurves() {
      this.plot?.batch(() => this.lines.forEach((line, index) => this.plot.setSeries(index + 1, { show: line.curve.visible })));
      this.plot?.redraw();
    }

    // Dim all curves but one; none if `color` is null.
    highlight(color) {
      const index = this.lines?.findLastIndex((line) => line.curve.color === color) ?? -1;
      this.plot?.setSeries(index < 0 ? null : index + 1, { focus: true });
    }

    resize() {
      if (!this.plot) return;
      if (this.host.clientWidth) this.plot.setSize({ width: this.host.clientWidth, height: this.host.clientHeight });
    }

    key(event) {
      if (event.ctrlKey || event.altKey || event.metaKey || !this.plot) return;
      const { min, max } = this.plot.scales.x, middle = this.row === null ? (min + max) / 2 : this.plot.data[0][this.row];
      const quarter = (max - min) / 4;
      switch (event.key) {
        case "ArrowLeft": this.step(-1); break;
        case "ArrowRight": this.step(1); break;
        case "Home": case "End": this.step(event.key === "Home" ? -Infinity : Infinity); break;
        case "+": case "=": this.zoom([middle - quarter, middle + quarter]); break;
        case "-": this.zoom([min - 2 * quarter, max + 2 * quarter]); break;
        case "Escape": this.zoom(null); break;
        default: return;
      }
      event.preventDefault();
    }

    // Move to the next position that a visible curve has a point at.
    step(direction) {
      const { data, scales: { x: { min, max } } } = this.plot, column = data[0];
      const shown = data.slice(1).filter((_, index) => this.lines[index].curve.visible);
      const rows = column.map((_, row) => row).filter((row) => column[row] >= min && column[row] <= max &&
        column[row] !== column[row - 1] && shown.some((values) => values[row] !== undefined));
      if (!rows.length) return;
      const now = this.row === null ? -1 : rows.findIndex((row) => row >= this.row);
      const next = this.row === null && direction < 0 && direction !== -Infinity ? rows.length - 1 : now + direction;
      this.moveTo(rows[Math.max(0, Math.min(next, rows.length - 1))]);
    }

    moveTo(row) {
      this.row = row;
      if (!this.plot) return;
      const left = row === null ? -10 : this.plot.valToPos(this.plot.data[0][row], "x");
      this.plot.setCursor({ left, top: row === null ? -10 : 0 });
    }

    download() {
      const rows = [["curve", this.data.axis, "wall_time", "value"]];
      for (const curve of this.curves) curve.y.forEach((y, point) => rows.push(
        [curve.name, curve.x[point], curve.t ? curve.start + curve.t[point] / 1000 : "", y]));
      tracelet.download(`${this.data.title.replace(/[^\w.-]+/g, "_") || "chart"}.csv`, tracelet.csv(rows));
    }
  };
})();
