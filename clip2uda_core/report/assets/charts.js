// Lines over one axis as SVG, drawn at the width that there is, with switches for the lines and values under the pointer.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 56, right: 20, top: 12, bottom: 40 };
const CHART_HEIGHT = 260;
const COLORS = 8;

function svgElement(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
  if (text !== undefined) element.textContent = text;
  return element;
}

// Round values that cover low..high in about `count` steps.
function roundTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9) + 1e-12; i++) ticks.push(i * step);
  return ticks.map((tick) => tick || 0); // no -0
}

// Powers of ten, with 2 and 5 between where they are few.
function logTicks(low, high) {
  const factors = Math.log10(high / low) > 2.5 ? [1] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    factors.forEach((factor) => ticks.push(factor * 10 ** power));
  }
  return ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
}

function numberText(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 10000 || size < 0.001) return value.toExponential(0).replace("e+", "e");
  return String(Number(value.toPrecision(3)));
}

class LineChart {
  constructor(figure, chart) {
    this.plot = figure.querySelector(".plot");
    this.chart = chart;
    this.hidden = new Set();
    this.readout = document.createElement("p");
    this.readout.className = "readout";
    figure.querySelector(".keys").before(this.readout);
    figure.querySelector(".keys").append(...chart.series.map((series, index) => this.key(series, index)));
    new ResizeObserver(() => this.draw()).observe(this.plot);
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", () => this.point(null));
  }

  key(series, index) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = `key line-${index % COLORS}${index >= COLORS ? " dashed" : ""}`;
    button.setAttribute("aria-pressed", "true");
    button.textContent = series.name;
    button.addEventListener("click", () => {
      const show = this.hidden.delete(index);
      if (!show) this.hidden.add(index);
      button.setAttribute("aria-pressed", String(show));
      this.draw();
    });
    return button;
  }

  shown() {
    return this.chart.series.map((series, index) => ({ ...series, index })).filter(({ index }) => !this.hidden.has(index));
  }

  // Sets the axes for the lines that are shown.
  scale(width) {
    const series = this.shown();
    const all = (axis) => series.flatMap((one) => one[axis]).filter((value) => value !== null);
    const range = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
    let [x0, x1] = range(all("x"));
    let [y0, y1] = range(all("y"));
    if (!(x1 >= x0) || !(y1 >= y0)) [x0, x1, y0, y1] = [0, 1, 0, 1];
    if (x0 > 0 && x0 < 0.1 * x1) x0 = 0;
    if (x1 === x0) [x0, x1] = [x0 - 1, x1 + 1];
    this.logarithmic = this.chart.log_y && y0 > 0;
    if (this.logarithmic) [y0, y1] = [y0 / 1.1, y1 * 1.1];
    else {
      const slack = 0.06 * (y1 - y0) || 0.5 * Math.abs(y1) || 1;
      [y0, y1] = [y0 >= 0 ? Math.max(0, y0 - slack) : y0 - slack, y1 + slack];
    }
    const bend = this.logarithmic ? Math.log : (value) => value;
    this.x = (value) => MARGIN.left + ((value - x0) / (x1 - x0)) * (width - MARGIN.left - MARGIN.right);
    this.y = (value) => CHART_HEIGHT - MARGIN.bottom - ((bend(value) - bend(y0)) / (bend(y1) - bend(y0))) * (CHART_HEIGHT - MARGIN.top - MARGIN.bottom);
    this.xTicks = roundTicks(x0, x1, Math.max(2, Math.min(8, width / 90)));
    this.yTicks = this.logarithmic ? logTicks(y0, y1) : roundTicks(y0, y1, 5);
  }

  draw() {
    const width = Math.round(this.plot.clientWidth);
    if (!width) return;
    this.scale(width);
    const { chart } = this;
    const svg = svgElement("svg", { width, height: CHART_HEIGHT, viewBox: `0 0 ${width} ${CHART_HEIGHT}`, role: "img", "aria-label": this.summary() });
    const bottom = CHART_HEIGHT - MARGIN.bottom;
    for (const tick of this.yTicks) {
      const y = this.y(tick);
      svg.append(svgElement("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y }));
      svg.append(svgElement("text", { x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" }, numberText(tick)));
    }
    for (const tick of this.xTicks) {
      svg.append(svgElement("line", { class: "tick", x1: this.x(tick), x2: this.x(tick), y1: bottom, y2: bottom + 5 }));
      svg.append(svgElement("text", { x: this.x(tick), y: bottom + 18, "text-anchor": "middle" }, tick.toLocaleString("en")));
    }
    svg.append(svgElement("line", { class: "axis", x1: MARGIN.left, x2: width - MARGIN.right, y1: bottom, y2: bottom }));
    svg.append(svgElement("text", { class: "name", x: width - MARGIN.right, y: bottom + 35, "text-anchor": "end" }, chart.x_label));
    const middle = (MARGIN.top + bottom) / 2;
    const unit = this.logarithmic ? `${chart.y_label}, logarithmic` : chart.y_label;
    svg.append(svgElement("text", { class: "name", x: 0, y: 0, "text-anchor": "middle", transform: `translate(13 ${middle}) rotate(-90)` }, unit));
    if (chart.marked_x) this.drawMark(svg, ...chart.marked_x, bottom, width);
    this.shown().forEach((series) => this.drawLine(svg, series));
    this.cursor = svgElement("line", { class: "cursor", y1: MARGIN.top, y2: bottom, visibility: "hidden" });
    svg.append(this.cursor);
    this.plot.replaceChildren(svg);
  }

  drawMark(svg, value, name, bottom, width) {
    const x = this.x(value);
    svg.append(svgElement("line", { class: "mark", x1: x, x2: x, y1: MARGIN.top, y2: bottom }));
    const side = x > width / 2 ? { x: x - 5, "text-anchor": "end" } : { x: x + 5, "text-anchor": "start" };
    svg.append(svgElement("text", { ...side, y: MARGIN.top + 10 }, name));
  }

  drawLine(svg, { x, y, index }) {
    const looks = `line line-${index % COLORS}${index >= COLORS ? " dashed" : ""}`;
    const places = x.map((value, i) => (y[i] === null ? null : [this.x(value).toFixed(1), this.y(y[i]).toFixed(1)]));
    const path = places.map((place, i) => (place ? `${i > 0 && places[i - 1] ? "L" : "M"}${place}` : "")).join("");
    svg.append(svgElement("path", { class: looks, d: path }));
    if (places.length > 40) return;
    places.filter(Boolean).forEach(([cx, cy]) => svg.append(svgElement("circle", { class: looks, cx, cy, r: 3 })));
  }

  summary() {
    const lines = this.chart.series.map(({ name, y }) => {
      const known = y.filter((value) => value !== null);
      return `${name} from ${numberText(known[0])} to ${numberText(known[known.length - 1])}`;
    });
    return `${this.chart.title}, ${this.chart.y_label} over ${this.chart.x_label}: ${lines.join("; ")}`;
  }

  // Values of all lines at the x nearest to the pointer.
  point(event) {
    const shown = this.shown();
    if (!event || !shown.length) {
      this.readout.textContent = "";
      this.cursor?.setAttribute("visibility", "hidden");
      return;
    }
    const at = event.clientX - this.plot.getBoundingClientRect().left;
    const nearest = (x) => x.reduce((best, value, i) => (Math.abs(this.x(value) - at) < Math.abs(this.x(x[best]) - at) ? i : best), 0);
    const value = shown[0].x[nearest(shown[0].x)];
    ["x1", "x2"].forEach((end) => this.cursor.setAttribute(end, this.x(value)));
    this.cursor.setAttribute("visibility", "visible");
    const values = shown.map(({ name, x, y }) => [name, y[nearest(x)]]).filter(([, y]) => y !== null);
    this.readout.textContent = `${this.chart.x_label} ${Math.round(value)}: ${values.map(([name, y]) => `${name} ${numberText(y)}`).join(", ")}`;
  }
}
