"use strict";
// Sort and filter the table of runs, and show only the selected runs in the charts.
tracelet.runs = (() => {
  const byId = (id) => document.getElementById(id);
  const rows = [...document.querySelectorAll("#run-table tbody tr")];
  // Each source (the search, the axes of the parallel coordinates) says which runs it admits.
  const sources = new Map(), listeners = [];

  const selected = (run) => [...sources.values()].every((admits) => admits(run));

  function select(source, admits) {
    if (admits) sources.set(source, admits); else sources.delete(source);
    rows.forEach((row) => { row.hidden = !selected(Number(row.dataset.run)); });
    if (byId("runs-found"))
      byId("runs-found").textContent = sources.size ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} runs` : "";
    tracelet.charts.forEach((chart) => {
      chart.curves.forEach((curve) => { curve.visible = selected(curve.color); });
      chart.figure.querySelectorAll("ul button").forEach((button, index) =>
        button.setAttribute("aria-pressed", String(chart.curves[index].visible)));
      chart.showCurves();
    });
    listeners.forEach((listener) => listener());
  }

  function highlight(run) {
    tracelet.charts.forEach((chart) => chart.highlight(run));
    document.querySelectorAll("[data-line]").forEach((line) => line.classList.toggle("on", Number(line.dataset.line) === run));
  }

  // Numbers come before texts, and cells without a value last, in both directions.
  function compare(a, b, direction) {
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    const [x, y] = [Number(a), Number(b)], [isText, isOther] = [Number.isNaN(x), Number.isNaN(y)];
    if (isText !== isOther) return isText - isOther;
    return direction * (isText ? a.localeCompare(b, undefined, { numeric: true }) : x - y);
  }

  function addSorting(table) {
    const headings = [...table.querySelectorAll("thead th")], body = table.tBodies[0];
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const up = heading.getAttribute("aria-sort") !== "ascending";
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
        const key = (row) => row.cells[column].dataset.sort;
        body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b), up ? 1 : -1)));
      });
    });
  }

  const filter = byId("run-filter"), equal = byId("equal");
  if (filter) {
    const setFilter = () => {
      const text = filter.value.trim(), matcher = tracelet.matcher(text);
      const found = new Set(rows.filter((row) => matcher.test(row.textContent)).map((row) => Number(row.dataset.run)));
      select("search", text ? (run) => found.has(run) : null);
    };
    filter.addEventListener("input", setFilter);
    if (filter.value) setFilter();
  }
  if (equal) {
    const setEqual = () => document.querySelectorAll(".equal").forEach((element) => { element.hidden = equal.checked; });
    equal.addEventListener("change", setEqual);
    setEqual();
  }
  document.querySelectorAll("table.sortable").forEach(addSorting);
  rows.forEach((row) => {
    row.addEventListener("pointerenter", () => highlight(Number(row.dataset.run)));
    row.addEventListener("pointerleave", () => highlight(null));
  });
  return { select, selected, highlight, onChange: (listener) => listeners.push(listener) };
})();
