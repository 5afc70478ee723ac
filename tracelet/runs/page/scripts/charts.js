"use strict";
// Draw the charts that come into view, and connect the controls above them.
(() => {
  const byId = (id) => document.getElementById(id);
  const settings = { axis: "step", smoothing: 0, logarithmic: false };
  const figures = document.querySelectorAll("figure.chart");
  const charts = JSON.parse(byId("charts").textContent).map((data, index) => new tracelet.Chart(figures[index], data, settings));
  tracelet.charts = charts;
  // Color curves by their number; by their own colors if there is no function.
  tracelet.colorBy = (colorOf) => { settings.colorOf = colorOf; redraw(); };
  const chartOf = new Map(charts.map((chart) => [chart.figure, chart]));
  const stale = new Set(charts), near = new Set();
  let request = 0;

  function redraw() {
    charts.forEach((chart) => stale.add(chart));
    cancelAnimationFrame(request);
    request = requestAnimationFrame(drawNear);
  }
  const drawNear = () => near.forEach((chart) => {
    if (!stale.has(chart) || chart.figure.hidden) return;
    chart.build();
    if (chart.plot) stale.delete(chart);
  });
  const observer = new IntersectionObserver((entries) => {
    entries.forEach(({ isIntersecting, target }) => near[isIntersecting ? "add" : "delete"](chartOf.get(target)));
    drawNear();
  }, { rootMargin: "400px" });
  charts.forEach((chart) => observer.observe(chart.figure));
  const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => chartOf.get(target.parentElement).resize()));
  charts.forEach((chart) => sizes.observe(chart.host));
  addEventListener("beforeprint", () => { charts.forEach((chart) => near.add(chart)); drawNear(); });
  tracelet.isDark.addEventListener("change", redraw);

  const setAxis = () => { settings.axis = byId("axis").value; redraw(); };
  const setScale = () => { settings.logarithmic = byId("logarithmic").checked; redraw(); };
  const setSmoothing = () => {
    settings.smoothing = Number(byId("smoothing").value);
    byId("smoothed").textContent = settings.smoothing.toFixed(2);
    redraw();
  };
  const setFilter = () => {
    const text = byId("filter").value.trim(), matcher = tracelet.matcher(text);
    let count = 0;
    charts.forEach((chart) => {
      chart.figure.hidden = !chart.names.some(matcher.test);
      count += chart.figure.hidden ? 0 : 1;
    });
    document.querySelectorAll(".group").forEach((group) => {
      group.hidden = !group.querySelector("figure.chart:not([hidden])");
      if (text && !group.hidden) group.open = true;
    });
    const note = matcher.valid ? "" : " (not a regular expression; searched as text)";
    byId("found").textContent = text ? `${count} of ${charts.length} charts${note}` : "";
    drawNear();
  };
  if (!charts.length) return;
  const controls = [["axis", "change", setAxis], ["logarithmic", "change", setScale], ["smoothing", "input", setSmoothing],
    ["filter", "input", setFilter]];
  for (const [id, event, act] of controls) {
    byId(id).addEventListener(event, act);
    // Browsers restore the controls of a page that was open before.
    if (id === "logarithmic" ? byId(id).checked : byId(id).value) act();
  }
})();
