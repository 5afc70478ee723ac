"use strict";
// Turn the points of curves into the columns that uPlot draws.
tracelet.curves = (() => {
  const MAX_RESTARTS = 50;

  // Smooth as TensorBoard does: an exponential moving average without the bias of its start.
  function smooth(values, weight) {
    const finite = values.filter(Number.isFinite);
    if (finite.every((value) => value === finite[0])) return values;
    let last = 0, count = 0;
    return values.map((value) => {
      if (!Number.isFinite(value)) return value;
      last = last * weight + (1 - weight) * value;
      count += 1;
      return last / (1 - weight ** count);
    });
  }

  // Return the position of each point on the x axis; NaN if it has none.
  function positions(curve, axis) {
    if (axis === "step") return curve.x.map(Number);
    if (!curve.t) return curve.x.map(() => NaN);
    return curve.t.map((offset) => (axis === "wall" ? curve.start + offset / 1000 : offset / 1000));
  }

  // Return ranges of points that move forward: steps begin again where a program does. Many such ranges are sorted.
  function forward(x) {
    const ranges = [[]];
    x.forEach((position, index) => {
      if (Number.isNaN(position)) return;
      const range = ranges[ranges.length - 1];
      if (range.length && position < x[range[range.length - 1]]) ranges.push([index]);
      else range.push(index);
    });
    return ranges.length <= MAX_RESTARTS ? ranges : [ranges.flat().sort((a, b) => x[a] - x[b] || a - b)];
  }

  // Return one row for each position, and as many as the points of one line there: [positions, values of a line, ...].
  // Values are undefined where a line has no point, and null where it has a gap. `line.rows` has the points of its rows.
  function align(lines) {
    const copies = new Map();
    for (const line of lines) {
      let previous = NaN, count = 0;
      for (const index of line.points) {
        count = line.x[index] === previous ? count + 1 : 1;
        previous = line.x[index];
        if (count > (copies.get(previous) || 0)) copies.set(previous, count);
      }
    }
    const sorted = [...copies.keys()].sort((a, b) => a - b), starts = new Map(), axis = [];
    for (const position of sorted) {
      starts.set(position, axis.length);
      for (let n = copies.get(position); n > 0; n--) axis.push(position);
    }
    return [axis, ...lines.map((line) => {
      const column = new Array(axis.length);
      line.rows = new Map();
      let previous = NaN, count = 0;
      for (const index of line.points) {
        count = line.x[index] === previous ? count + 1 : 0;
        previous = line.x[index];
        const row = starts.get(previous) + count;
        column[row] = line.values[index];
        line.rows.set(row, index);
      }
      return column;
    })];
  }

  // Return the lines of a curve: its values and, if they are smoothed, the smoothed ones in front.
  function lines(curve, index, { axis, smoothing }, drawable) {
    const x = positions(curve, axis), values = curve.scaled.map(drawable);
    const kinds = [{ values, smooth: false, has: () => true }];
    if (smoothing > 0) {
      // The points of a long curve are extremes. Their averages are of all points between them.
      const has = (point) => !curve.m || curve.means[point] !== null;
      const averages = (curve.m ? curve.means : curve.scaled).filter((value) => value !== null);
      const smoothed = smooth(averages, smoothing)[Symbol.iterator]();
      const spread = curve.scaled.map((_, point) => (has(point) ? smoothed.next().value : null));
      kinds.push({ values: spread.map(drawable), smooth: true, has });
    }
    const ranges = forward(x);
    return kinds.flatMap((kind) => ranges.map((range) => ({
      curve, index, x, values: kind.values, smooth: kind.smooth, points: range.filter(kind.has),
    })));
  }

  return { smooth, align, lines, positions };
})();
