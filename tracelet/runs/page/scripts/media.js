"use strict";
// Show media one step at a time, enlarge images, and show the values of histograms and precision-recall curves.
(() => {
  const { html, svg, number } = tracelet;

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
      frames.forEach((frame, index) => {
        frame.hidden = index !== Number(slider.value);
        if (frame.hidden) frame.querySelectorAll("audio, video").forEach((clip) => clip.pause());
      });
      output.textContent = `${Number(slider.value) + 1} of ${frames.length}`;
      slider.setAttribute("aria-valuetext", `step ${frames[slider.value].dataset.step}`);
    };
    slider.addEventListener("input", show);
    show();
  }

  // Enlarge images in a dialog, which Escape closes. Arrow keys move between the steps of one name.
  function addViewer(images) {
    const dialog = html(document.body, "dialog", "viewer");
    dialog.setAttribute("aria-label", "Image");
    const bar = html(dialog, "p", ""), title = html(bar, "span", ""), close = html(bar, "button", "", "Close");
    const large = html(dialog, "img", "");
    large.alt = "Image";
    let frames = [], index = 0;
    const show = (next) => {
      index = Math.max(0, Math.min(next, frames.length - 1));
      const image = frames[index];
      Object.assign(large, { src: image.src, alt: image.alt, className: image.className });
      title.textContent = `${image.alt}${frames.length > 1 ? ` (${index + 1} of ${frames.length})` : ""}`;
    };
    const open = (image) => {
      frames = [...image.closest(".frames").querySelectorAll("img")];
      show(frames.indexOf(image));
      dialog.showModal();
    };
    close.type = "button";
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target === large) dialog.close(); });
    dialog.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      if (!move) return;
      event.preventDefault();
      show(index + move);
    });
    images.forEach((image) => {
      Object.assign(image, { tabIndex: 0, title: "Enlarge" }).setAttribute("role", "button");
      image.addEventListener("click", () => open(image));
      image.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        open(image);
      });
    });
  }

  // Show values beside the pointer. `find(x, y)` has coordinates of the drawing, and returns text, mark and place.
  function addTip(drawing, find, move) {
    const tip = html(drawing.parentElement, "div", "tip");
    tip.setAttribute("role", "status");
    tip.hidden = true;
    let mark = null;
    const show = (found) => {
      mark?.remove();
      tip.hidden = !found;
      if (!found) return;
      mark = svg(drawing, ...found.mark);
      tip.replaceChildren();
      found.lines.forEach((line) => html(tip, "div", "", line));
      const scale = drawing.clientWidth / drawing.viewBox.baseVal.width, right = found.x > drawing.viewBox.baseVal.width / 2;
      tip.style.left = right ? "" : `${found.x * scale + 12}px`;
      tip.style.right = right ? `${drawing.clientWidth - found.x * scale + 12}px` : "";
    };
    drawing.tabIndex = 0;
    drawing.addEventListener("pointermove", (event) => {
      const box = drawing.getBoundingClientRect(), view = drawing.viewBox.baseVal;
      show(find(((event.clientX - box.left) / box.width) * view.width, ((event.clientY - box.top) / box.height) * view.height));
    });
    drawing.addEventListener("pointerleave", () => show(null));
    drawing.addEventListener("blur", () => show(null));
    drawing.addEventListener("keydown", (event) => {
      if (!/^Arrow/.test(event.key)) return;
      event.preventDefault();
      show(move(event.key));
    });
  }

  function addHistogram(drawing) {
    const { low, high, width } = drawing.dataset, across = Number(width), from = Number(low), to = Number(high);
    const ridges = [...drawing.querySelectorAll(".ridge")].map((shape) => ({
      shape, step: shape.dataset.step, base: Number(shape.dataset.base), counts: shape.dataset.counts.split(" ").map(Number),
    }));
    let row = ridges.length - 1, bin = -1;
    const edge = (index) => number(Number((from + ((to - from) * index) / ridges[row].counts.length).toPrecision(4)));
    const found = () => {
      const { shape, step, counts } = ridges[row];
      return {
        x: ((bin + 0.5) / counts.length) * across, lines: [`step ${step}`, `${edge(bin)} to ${edge(bin + 1)}`, `count ${counts[bin]}`],
        mark: ["polygon", { points: shape.getAttribute("points"), class: "ridge-mark" }],
      };
    };
    addTip(drawing, (x, y) => {
      const below = ridges.findIndex((ridge) => ridge.base >= y);
      row = below < 0 ? ridges.length - 1 : below;
      bin = Math.max(0, Math.min(Math.floor((x / across) * ridges[row].counts.length), ridges[row].counts.length - 1));
      return found();
    }, (key) => {
      row = Math.max(0, Math.min(row + ({ ArrowUp: -1, ArrowDown: 1 }[key] || 0), ridges.length - 1));
      bin = Math.max(0, Math.min(bin + ({ ArrowLeft: -1, ArrowRight: 1 }[key] || 0), ridges[row].counts.length - 1));
      return found();
    });
  }

  function addPrecision(drawing) {
    const points = [...drawing.querySelector("polyline").points].map(({ x, y }) => [x, y]);
    const values = drawing.dataset.values.split(";").map((value) => value.split(","));
    let index = -1;
    if (!points.length) return;
    const found = () => ({
      x: points[index][0], mark: ["circle", { cx: points[index][0], cy: points[index][1], r: 4, class: "spot c0" }],
      lines: ["threshold", "precision", "recall"].map((name, place) => `${name} ${values[index][place]}`),
    });
    addTip(drawing, (x, y) => {
      const distances = points.map(([left, top]) => (left - x) ** 2 + (top - y) ** 2);
      index = distances.indexOf(Math.min(...distances));
      return found();
    }, (key) => {
      index = Math.max(0, Math.min(index + (/Left|Up/.test(key) ? -1 : 1), points.length - 1));
      return found();
    });
  }

  document.querySelectorAll(".reel").forEach(addSlider);
  const images = document.querySelectorAll(".frames img");
  if (images.length) addViewer(images);
  document.querySelectorAll(".histogram").forEach(addHistogram);
  document.querySelectorAll(".precision").forEach(addPrecision);
})();
