"use strict";
// Choose the ticks of an axis and their labels.
tracelet.axes = (() => {
  const DURATIONS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];

  function multiples(step, low, high) {
    const values = [];
    for (let n = Math.ceil(low / step); n * step <= high && values.length < 60; n++) values.push(n * step);
    return values;
  }

  // Return round values between two others, in steps of 1, 2 or 5 times a power of ten.
  function ticks(low, high, limit) {
    const rough = (high - low) / limit;
    if (!(rough > 0) || !Number.isFinite(rough)) return low === high ? [low] : [low, high];
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((part) => part * power).find((size) => size >= rough) || rough;
    const values = multiples(step, low, high);
    return values.length > 1 ? values : [low, high];
  }

  const whole = (low, high, limit) => (high - low < 1 ? ticks(low, high, limit)
    : ticks(low, high, Math.min(limit, high - low)).filter((value) => Math.abs(value - Math.round(value)) < 1e-6));

  function durations(low, high, limit) {
    const rough = (high - low) / limit;
    const step = rough < 1 ? 0 : DURATIONS.find((size) => size >= rough) || 86400 * Math.ceil(rough / 86400);
    return step ? multiples(step, low, high) : ticks(low, high, limit);
  }

  function binary(low, high, limit) {
    const step = 2 ** Math.ceil(Math.log2((high - low) / limit));
    const values = step > 0 ? multiples(step, low, high) : [];
    return values.length > 1 ? values : [low, high];
  }

  // Return powers of ten, or 1, 2 and 5 times them, or round values of a short stretch.
  function logarithmic(low, high, limit) {
    const from = Math.log10(low), to = Math.log10(high), span = to - from;
    if (span < 0.7) return ticks(low, high, limit);
    const every = Math.max(1, Math.ceil(span / limit)), values = [];
    for (let power = Math.floor(from); power <= to; power += every)
      for (const part of span < 2 ? [1, 2, 5] : [1]) {
        const value = Number(`${part}e${power}`);
        if (value >= low && value <= high) values.push(value);
      }
    return values.length ? values : [low, high];
  }

  // Write values with as many digits as they need to differ. They stand for `value * 10 ** exponent`.
  function labels(values, exponent = 0) {
    const gaps = values.slice(1).map((value, index) => Math.abs(value - values[index])).filter((gap) => gap > 0);
    const gap = Math.min(...gaps), largest = Math.max(...values.map(Math.abs));
    if (exponent || largest >= 1e6 || (largest < 1e-3 && largest > 0)) {
      const digits = Number.isFinite(gap) ? Math.min(Math.max(Math.ceil(Math.log10(largest / gap)), 0), 15) : 3;
      return values.map((value) => {
        const [mantissa, power] = value.toExponential(digits).split("e");
        return value === 0 ? "0" : `${Number(mantissa)}e${Number(power) + exponent}`;
      });
    }
    if (!Number.isFinite(gap)) return values.map((value) => String(Number(value.toPrecision(4))));
    const decimals = Math.min(Math.max(-Math.floor(Math.log10(gap) + 1e-9), 0), 20);
    return values.map((value) => value.toFixed(decimals));
  }

  function powers(values, exponent) {
    return values.map((value) => {
      if (!exponent && value >= 1e-4 && value < 1e6) return String(Number(value.toPrecision(3)));
      const [mantissa, power] = value.toExponential(2).split("e");
      return `${Number(mantissa)}e${Number(power) + exponent}`;
    });
  }

  const step = (value) => {
    const rounded = Math.abs(value - Math.round(value)) < 1e-6 ? Math.round(value) : value;
    for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (Math.abs(rounded) >= 10 * size && Math.abs(rounded) < 1e12 && rounded % (size / 10) === 0) return `${rounded / size}${letter}`;
    return Math.abs(rounded) < 1e12 ? String(Number(rounded.toPrecision(12))) : rounded.toExponential(3);
  };

  // Write times of the day; with the date if they span more than one.
  function times(values) {
    const texts = values.map((value) => tracelet.moment(value)), days = new Set(texts.map((text) => text.slice(0, 10)));
    const seconds = values.length > 1 && values[1] - values[0] < 60;
    return texts.map((text) => (days.size > 1 ? text.slice(5, 16) : text.slice(11, seconds ? 19 : 16)));
  }

  return { ticks, whole, durations, binary, logarithmic, labels, powers, step, times };
})();
