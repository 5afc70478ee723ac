"use strict";
// Helpers of the page's scripts. Text of a run is inserted as text, never as markup.
var tracelet = (() => {
  const SVG = "http://www.w3.org/2000/svg";

  function html(parent, name, className, text) {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  function svg(parent, name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  // Return a test for names: a regular expression without case. Text that is none is searched as it is.
  function matcher(text) {
    try {
      const pattern = new RegExp(text, "i");
      return { test: (name) => pattern.test(name), valid: true };
    } catch {
      return { test: (name) => name.toLowerCase().includes(text.toLowerCase()), valid: false };
    }
  }

  function bytes(value) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let index = 0;
    for (; Math.abs(value) >= 1024 && index < units.length - 1; index++) value /= 1024;
    return `${Number(value.toFixed(1))} ${units[index]}`;
  }

  const number = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(8))) : String(value));

  function duration(seconds) {
    const whole = Math.round(Math.abs(seconds)), sign = seconds < 0 ? "-" : "";
    if (Math.abs(seconds) < 10) return `${Number(seconds.toFixed(2))} s`;
    const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].filter(([size]) => whole >= size);
    const first = parts[0], next = parts[1];
    const rest = next ? Math.floor((whole % first[0]) / next[0]) : 0;
    return `${sign}${Math.floor(whole / first[0])} ${first[1]}${rest ? ` ${rest} ${next[1]}` : ""}`;
  }

  function moment(seconds) {
    const date = new Date(seconds * 1000), two = (value) => String(value).padStart(2, "0");
    if (Number.isNaN(date.getTime())) return "invalid time";
    const day = [date.getFullYear(), date.getMonth() + 1, date.getDate()].map(two).join("-");
    return `${day} ${[date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":")}`;
  }

  // Offer a text as a file.
  function download(name, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function csv(rows) {
    const cell = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
    return rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
  }

  // Return a color from the first (0) to the last (1) of the style's gradient, as #rrggbb.
  function gradient(part) {
    const styles = getComputedStyle(document.documentElement);
    const stops = ["g0", "g1", "g2"].map((name) => styles.getPropertyValue(`--${name}`).trim())
      .map((color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)));
    const index = part < 0.5 ? 0 : 1, share = part * 2 - index;
    const mixed = stops[index].map((from, at) => Math.round(from + (stops[index + 1][at] - from) * share));
    return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
  }

  const colors = (index) => `c${index % 8}`;
  const dashes = (index) => Math.floor(index / 8) % 4;
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  return { html, svg, matcher, bytes, number, duration, moment, download, csv, gradient, colors, dashes, isDark };
})();
