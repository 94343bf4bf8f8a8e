// The 3D view and its controls: which cloud, which colours, which classes, and what the point under the pointer is.

const IGNORE = 255;
const IGNORE_COLOR = [90, 90, 90];

// Ways to colour: which layer of labels the class switches act on, which layer of bytes the ramp shows, and its ends.
const COLORINGS = {
  after: { title: "class, after", label: "after" },
  before: { title: "class, before", label: "before" },
  changes: { title: "points that changed", label: "after", other: "before", coloring: COLORING.changes },
  truth: { title: "class, as recorded", label: "truth" },
  errors: { title: "points that differ from the recorded labels", label: "after", other: "truth", coloring: COLORING.changes },
  confidence_after: { title: "confidence, after", label: "after", value: "confidence_after", ends: ["0 %", "100 %"] },
  confidence_before: { title: "confidence, before", label: "before", value: "confidence_before", ends: ["0 %", "100 %"] },
  intensity: { title: "intensity", label: "after", value: "intensity", ends: ["weak", "strong"] },
  height: { title: "height", label: "after", byHeight: true },
};

function bytesOf(id) {
  return Uint8Array.from(atob(document.getElementById(id).textContent), (character) => character.charCodeAt(0));
}

// One embedded cloud, decoded; heights: what the ramp spans, the 2nd and 98th percentile of z in metres.
function readCloud(header, number) {
  const layers = Object.fromEntries(header.layers.map((name) => [name, bytesOf(`cloud-${number}-${name}`)]));
  const places = new Uint16Array(bytesOf(`cloud-${number}-xyz`).buffer);
  const z = places.filter((_, index) => index % 3 === 2).sort();
  const height = (part) => header.low[2] + header.step[2] * z[Math.floor(part * (z.length - 1))];
  return { ...header, layers, places, heights: [height(0.02), Math.max(height(0.98), height(0.02) + 0.5)] };
}

// Rings on the ground every 10 m, and the sensor's axes in red, green and blue.
function furniture(ground) {
  const segments = [];
  const line = (a, b, color) => segments.push(...a, ...color, ...b, ...color);
  for (let radius = 10; radius <= 80; radius += 10) {
    const at = (step) => [radius * Math.cos(step * Math.PI / 64), radius * Math.sin(step * Math.PI / 64), ground];
    for (let step = 0; step < 128; step++) line(at(step), at(step + 1), radius % 50 ? [0.24, 0.27, 0.34] : [0.42, 0.46, 0.56]);
  }
  [[1, 0, 0], [0, 1, 0], [0, 0, 1]].forEach((axis) => line([0, 0, 0], axis.map((part) => 1.5 * part), axis.map((part) => 0.35 + 0.6 * part)));
  return segments;
}

class Viewer {
  constructor(root, headers, ramp) {
    this.root = root;
    this.headers = headers;
    this.clouds = new Map();
    this.form = root.querySelector("form");
    this.canvas = root.querySelector(".stage canvas");
    this.tip = root.querySelector(".tip");
    this.rgbRamp = bytesToRgba(ramp);
    this.renderer = new Renderer(this.canvas);
    this.orbit = new Orbit();
    this.prepare();
    this.connect();
  }

  // What a new context needs: at the start, and after the browser has taken the old one away.
  prepare() {
    this.renderer.setRamp(this.rgbRamp);
    this.showRamp(this.rgbRamp);
    this.showCloud();
  }

  connect() {
    const changed = () => this.redraw();
    new OrbitInput(this.canvas, this.orbit, {
      changed,
      pointed: (x, y, kind) => this.pointed(x, y, kind),
      key: (name) => name === "Enter" && this.pointed(this.canvas.clientWidth / 2, this.canvas.clientHeight / 2, "click"),
    });
    new ResizeObserver(changed).observe(this.canvas);
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("input", (event) => (event.target.name === "frame" ? this.showCloud() : this.update()));
    const button = (name, act) => this.root.querySelector(`.${name}`).addEventListener("click", act);
    const tick = (checked) => () => {
      this.form.querySelectorAll("[name=class]").forEach((box) => (box.checked = checked));
      this.update();
    };
    button("all", tick(true));
    button("none", tick(false));
    button("reset", () => (this.orbit.reset(), this.redraw()));
    button("from-above", () => (this.orbit.lookFromAbove(), this.redraw()));
    button("fullscreen", () => {
      if (document.fullscreenElement) document.exitFullscreen();
      else this.root.querySelector(".stage").requestFullscreen();
    });
    this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.renderer = new Renderer(this.canvas);
      this.prepare();
    });
  }

  showCloud() {
    const number = Number(this.form.elements.frame.value);
    if (!this.clouds.has(number)) this.clouds.set(number, readCloud(this.headers[number], number));
    this.cloud = this.clouds.get(number);
    this.renderer.setCloud(this.cloud);
    this.renderer.setLines(furniture(this.cloud.heights[0]));
    const select = this.form.elements.coloring;
    const chosen = select.value || "after";
    const possible = Object.entries(COLORINGS).filter(([, way]) =>
      [way.label, way.other, way.value].every((layer) => !layer || layer in this.cloud.layers));
    select.replaceChildren(...possible.map(([name, way]) => new Option(way.title, name, false, name === chosen)));
    this.update();
  }

  // Takes over the controls.
  update() {
    const controls = this.form.elements;
    const way = COLORINGS[controls.coloring.value];
    const ramped = Boolean(way.value || way.byHeight);
    this.look = {
      label: way.label,
      other: way.other || way.label,
      value: way.value || way.label,
      coloring: ramped ? COLORING.ramp : way.coloring || COLORING.classes,
      byHeight: Boolean(way.byHeight),
      size: Number(controls.size.value),
      withLines: controls.rings.checked,
    };
    const boxes = [...this.form.querySelectorAll("[name=class]")];
    const shown = new Set(boxes.filter((box) => box.checked).map((box) => Number(box.value)));
    this.renderer.setClasses(this.classColors(shown));
    this.count(boxes, shown, way);
    const ramp = this.root.querySelector(".ramp");
    ramp.hidden = !ramped;
    const ends = way.ends || this.cloud.heights.map((height) => `${height.toFixed(1)} m`);
    [".low", ".high"].forEach((end, index) => (ramp.querySelector(end).textContent = ends[index]));
    this.redraw();
  }

  // 256 colours by label; those that are switched off have alpha 0.
  classColors(shown) {
    const rgba = new Uint8Array(4 * 256);
    for (let label = 0; label < 256; label++) {
      const known = label < this.cloud.colors.length;
      rgba.set(known ? this.cloud.colors[label] : IGNORE_COLOR, 4 * label);
      rgba[4 * label + 3] = shown.has(known ? label : IGNORE) ? 255 : 0;
    }
    return rgba;
  }

  // Writes the share of each class beside its switch, and how many points are shown.
  count(boxes, shown, way) {
    const counts = new Uint32Array(256);
    let different = 0;
    this.cloud.layers[way.label].forEach((label, index) => {
      counts[label] += 1;
      if (way.other && this.cloud.layers[way.other][index] !== label) different += 1;
    });
    let visible = 0;
    for (const box of boxes) {
      const count = counts[Number(box.value)];
      if (shown.has(Number(box.value))) visible += count;
      box.parentElement.querySelector(".share").textContent = `${(100 * count / this.cloud.points).toFixed(1)} %`;
    }
    const note = way.other ? `, ${(100 * different / this.cloud.points).toFixed(1)} % of the points differ` : "";
    this.root.querySelector(".status").textContent = `${visible.toLocaleString("en")} points shown${note}`;
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      if (this.canvas.clientWidth) this.renderer.draw(this.look, this.orbit);
    });
  }

  pointed(x, y, kind) {
    cancelAnimationFrame(this.looking);
    this.tip.hidden = true;
    if (kind === "leave") return;
    this.looking = requestAnimationFrame(() => {
      const index = this.renderer.pick(x, y);
      if (kind === "click") this.root.querySelector(".picked").textContent = index < 0 ? "No point there." : this.describe(index);
      if (index < 0) return;
      if (kind === "double") {
        this.orbit.target = this.place(index);
        this.redraw();
        return;
      }
      this.tip.textContent = this.describe(index);
      this.tip.hidden = false;
      const right = Math.max(0, this.canvas.clientWidth - this.tip.offsetWidth - 8);
      this.tip.style.left = `${Math.min(x + 14, right)}px`;
      this.tip.style.top = `${y + 18 + this.tip.offsetHeight > this.canvas.clientHeight ? y - this.tip.offsetHeight - 8 : y + 18}px`;
    });
  }

  place(index) {
    return [0, 1, 2].map((axis) => this.cloud.low[axis] + this.cloud.step[axis] * this.cloud.places[3 * index + axis]);
  }

  describe(index) {
    const { layers, names } = this.cloud;
    const name = (layer) => names[layers[layer][index]] || "no class";
    const sure = (layer) => (layer in layers ? ` ${Math.round(layers[layer][index] / 2.55)} %` : "");
    const parts = [`${name("after")}${sure("confidence_after")}`];
    if (layers.before) parts.push(`before: ${name("before")}${sure("confidence_before")}`);
    if (layers.truth) parts.push(`recorded: ${name("truth")}`);
    const place = this.place(index);
    parts.push(`${Math.hypot(...place).toFixed(1)} m away`, `at ${place.map((part) => part.toFixed(2)).join(", ")}`);
    return parts.join(" · ");
  }

  showRamp(rgba) {
    const context = this.root.querySelector(".ramp canvas").getContext("2d");
    context.putImageData(new ImageData(new Uint8ClampedArray(rgba), 256, 1), 0, 0);
  }
}

function bytesToRgba(base64) {
  const rgb = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const rgba = new Uint8Array(4 * 256).fill(255);
  for (let i = 0; i < 256; i++) rgba.set(rgb.subarray(3 * i, 3 * i + 3), 4 * i);
  return rgba;
}
