// Slice viewer: three planes of a volume with contours of truth and prediction, scrolled by
// slider, wheel and keys. Volumes are gzipped uint8 arrays z y x, with axes to superior,
// posterior and left; see volumes.py.
"use strict";
(() => {
  // The axis that a plane cuts, those of its rows and columns, and what lies left and right.
  // Rows of a flipped plane run upwards, to superior.
  const PLANES = [
    { name: "Axial", axis: 0, row: 1, column: 2, flipped: false, sides: "RL" },
    { name: "Coronal", axis: 1, row: 0, column: 2, flipped: true, sides: "RL" },
    { name: "Sagittal", axis: 2, row: 0, column: 1, flipped: true, sides: "AP" },
  ];
  const LONGEST = 640; // pixels of a canvas along its longer side; the page scales it
  const STEPS = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5 };

  function element(name, attributes = {}, ...children) {
    const made = Object.assign(document.createElement(name), attributes);
    made.append(...children);
    return made;
  }

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // Values of one slice, row by row as they are shown.
  function cut(array, shape, plane, index) {
    const strides = [shape[1] * shape[2], shape[2], 1];
    const rows = shape[plane.row];
    const columns = shape[plane.column];
    const slice = new Uint8Array(rows * columns);
    for (let r = 0; r < rows; r++) {
      const from = plane.flipped ? rows - 1 - r : r;
      const start = index * strides[plane.axis] + from * strides[plane.row];
      for (let c = 0; c < columns; c++) {
        slice[r * columns + c] = array[start + c * strides[plane.column]];
      }
    }
    return slice;
  }

  // Edges between voxels inside and outside of a mask, as lines from corner to corner.
  function outline(inside, rows, columns, sx, sy) {
    const path = new Path2D();
    const at = (r, c) => r >= 0 && c >= 0 && r < rows && c < columns && inside(r * columns + c);
    for (let r = 0; r <= rows; r++) {
      for (let c = 0; c <= columns; c++) {
        if (at(r, c) !== at(r - 1, c)) {
          path.moveTo(c * sx, r * sy);
          path.lineTo((c + 1) * sx, r * sy);
        }
        if (at(r, c) !== at(r, c - 1)) {
          path.moveTo(c * sx, r * sy);
          path.lineTo(c * sx, (r + 1) * sy);
        }
      }
    }
    return path;
  }

  // The slice with the largest labelled area.
  function fullest(labels, shape, axis) {
    const areas = new Array(shape[axis]).fill(0);
    const strides = [shape[1] * shape[2], shape[2], 1];
    labels.forEach((value, i) => {
      if (value) areas[Math.floor(i / strides[axis]) % shape[axis]]++;
    });
    return areas.indexOf(Math.max(...areas));
  }

  class Plane {
    constructor(viewer, plane) {
      const { shape, spacing, truth } = viewer;
      this.viewer = viewer;
      this.plane = plane;
      const last = shape[plane.axis] - 1;
      const width = shape[plane.column] * spacing[plane.column];
      const height = shape[plane.row] * spacing[plane.row];
      const scale = LONGEST / Math.max(width, height); // pixels per mm: slices keep their shape
      this.canvas = element("canvas", {
        width: Math.max(1, Math.round(width * scale)),
        height: Math.max(1, Math.round(height * scale)),
        tabIndex: 0,
        role: "img",
        ariaLabel: `${plane.name} slice of ${viewer.name}; arrow keys and wheel scroll`,
      });
      const start = fullest(truth, shape, plane.axis);
      this.slider = element("input", { type: "range", min: 0, max: last, value: start });
      this.slider.ariaLabel = `${plane.name} slice`;
      this.output = element("output");
      this.slider.addEventListener("input", () => this.draw());
      this.canvas.addEventListener("keydown", (event) => this.key(event));
      this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      const label = element("label", {}, plane.name, this.slider, this.output);
      this.element = element("div", { className: "plane" }, this.canvas, label);
      this.draw();
    }

    get index() {
      return Number(this.slider.value);
    }

    move(step) {
      this.slider.value = this.index + step; // the slider keeps within its ends
      this.draw();
    }

    key(event) {
      const ends = { Home: -this.index, End: Number(this.slider.max) - this.index };
      const step = STEPS[event.key] ?? ends[event.key];
      if (step === undefined) return;
      event.preventDefault();
      this.move(step);
    }

    // Only where the picture has been clicked: else the wheel scrolls the page past it.
    wheel(event) {
      if (document.activeElement !== this.canvas) return;
      event.preventDefault();
      this.move(event.deltaY < 0 ? 1 : -1);
    }

    draw() {
      const { shape, image, truth, prediction, classes, shows } = this.viewer;
      const plane = this.plane;
      const rows = shape[plane.row];
      const columns = shape[plane.column];
      const context = this.canvas.getContext("2d");
      const { width, height } = this.canvas;
      const small = element("canvas", { width: columns, height: rows });
      const pixels = new ImageData(columns, rows);
      cut(image, shape, plane, this.index).forEach((gray, i) => {
        pixels.data.set([gray, gray, gray, 255], 4 * i);
      });
      small.getContext("2d").putImageData(pixels, 0, 0);
      context.imageSmoothingEnabled = false;
      context.drawImage(small, 0, 0, width, height);
      const maps = [
        { shown: shows.truth, array: truth, dash: [], lighter: false },
        { shown: shows.prediction, array: prediction, dash: [6, 4], lighter: true },
      ];
      for (const { array, dash, lighter } of maps.filter((map) => map.shown)) {
        const slice = cut(array, shape, plane, this.index);
        const thickness = lighter ? 3 : 4;
        context.setLineDash(dash);
        for (const { values, color } of classes) {
          const members = new Set(values);
          const inside = (i) => members.has(slice[i]);
          const path = outline(inside, rows, columns, width / columns, height / rows);
          context.lineWidth = thickness + 4; // a dark rim: seen on bright tissue too
          context.strokeStyle = "rgb(0 0 0 / 0.45)";
          context.stroke(path);
          context.lineWidth = thickness;
          context.strokeStyle = lighter ? `color-mix(in srgb, ${color} 50%, white)` : color;
          context.stroke(path);
        }
      }
      this.letters(context, width, height);
      const position = `${this.index + 1} of ${shape[plane.axis]}`;
      this.output.textContent = position;
      this.slider.ariaValueText = `slice ${position}`;
    }

    letters(context, width, height) {
      context.setLineDash([]);
      context.font = "30px system-ui, sans-serif";
      context.textBaseline = "middle";
      context.lineWidth = 5;
      [...this.plane.sides].forEach((letter, i) => {
        context.textAlign = i ? "right" : "left";
        context.strokeStyle = "black";
        context.strokeText(letter, i ? width - 10 : 10, height / 2);
        context.fillStyle = "white";
        context.fillText(letter, i ? width - 10 : 10, height / 2);
      });
    }
  }

  function controls(viewer, maps, redraw) {
    const row = element("div", { className: "controls" });
    const names = Object.keys(maps);
    if (names.length > 1) {
      const options = names.map((name) => element("option", { value: name, textContent: name }));
      const select = element("select", {}, ...options);
      select.addEventListener("change", () => {
        viewer.prediction = maps[select.value];
        redraw();
      });
      row.append(element("label", {}, "Prediction of", select));
    }
    for (const name of ["truth", "prediction"]) {
      const box = element("input", { type: "checkbox", checked: true });
      box.addEventListener("change", () => {
        viewer.shows[name] = box.checked;
        redraw();
      });
      row.append(element("label", {}, box, name));
    }
    for (const { name, color } of viewer.classes) {
      const swatch = element("span", { className: "swatch" });
      swatch.style.background = color;
      row.append(element("span", {}, swatch, " ", name));
    }
    return row;
  }

  async function build(place) {
    const data = JSON.parse(document.getElementById(place.dataset.volumes).textContent);
    const maps = {};
    for (const [name, packed] of Object.entries(data.labels)) maps[name] = await unpack(packed);
    const { truth, ...predictions } = maps;
    const viewer = {
      name: data.case,
      shape: data.shape,
      spacing: data.spacing,
      classes: data.classes,
      image: await unpack(data.image),
      truth,
      prediction: Object.values(predictions)[0],
      shows: { truth: true, prediction: true },
    };
    const planes = PLANES.map((plane) => new Plane(viewer, plane));
    const redraw = () => planes.forEach((plane) => plane.draw());
    const thinned = data.thinned.some((step) => step > 1)
      ? ` Every ${data.thinned.join(", ")}. voxel along z, y, x.`
      : "";
    place.replaceChildren(
      controls(viewer, predictions, redraw),
      element("div", { className: "planes" }, ...planes.map((plane) => plane.element)),
      element("p", {
        className: "quiet",
        textContent: `Click a slice, then scroll with the wheel or the arrow keys.${thinned}`,
      }),
    );
  }

  for (const place of document.querySelectorAll(".viewer")) {
    build(place).catch((error) => {
      place.textContent = `The slice viewer does not work in this browser: ${error.message}`;
    });
  }
})();
