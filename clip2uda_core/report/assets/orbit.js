// A camera that turns about a target, and the mouse, touch and keys that move it. World axes: x forward, y left, z up.

const TURN_PER_PIXEL = 0.006;
const STEEPEST = Math.PI / 2 - 0.001;

class Orbit {
  constructor() {
    this.reset();
  }

  // Behind and above the sensor, looking forward.
  reset() {
    Object.assign(this, { yaw: 0, pitch: 0.5, distance: 36, target: [9, 0, -1] });
  }

  lookFromAbove() {
    Object.assign(this, { yaw: 0, pitch: STEEPEST, distance: 75, target: [0, 0, 0] });
  }

  axes() {
    const [sin, cos] = [Math.sin(this.yaw), Math.cos(this.yaw)];
    const forward = [Math.cos(this.pitch) * cos, Math.cos(this.pitch) * sin, -Math.sin(this.pitch)];
    const right = [sin, -cos, 0];
    return { forward, right, up: cross(right, forward) };
  }

  view() {
    const { forward, right, up } = this.axes();
    return viewFrom(along(this.target, -this.distance, forward), right, up, forward);
  }

  turn(dx, dy) {
    this.yaw -= TURN_PER_PIXEL * dx;
    this.pitch = Math.min(STEEPEST, Math.max(-STEEPEST, this.pitch + TURN_PER_PIXEL * dy));
  }

  // Moves the scene with the pointer: by pixels of a canvas of that height.
  move(dx, dy, height) {
    const metres = (2 * this.distance * Math.tan(FIELD_OF_VIEW / 2)) / height;
    const { right, up } = this.axes();
    this.target = along(along(this.target, -metres * dx, right), metres * dy, up);
  }

  zoom(factor) {
    this.distance = Math.min(400, Math.max(1, this.distance * factor));
  }
}

// Connects a canvas to an orbit. `changed()` is called after each movement, `pointed(x, y, kind)` with the place in CSS
// pixels for a pointer that hovers, clicks or double-clicks, `key(name)` with keys that do not move the camera.
class OrbitInput {
  constructor(canvas, orbit, { changed, pointed, key }) {
    Object.assign(this, { canvas, orbit, changed, pointed, key, pointers: new Map(), travelled: 0 });
    const on = (name, act, options) => canvas.addEventListener(name, act.bind(this), options);
    on("pointerdown", this.press);
    on("pointermove", this.drag);
    on("pointerup", this.release);
    on("pointercancel", this.release);
    on("pointerleave", () => this.pointed(0, 0, "leave"));
    on("dblclick", (event) => this.pointed(event.offsetX, event.offsetY, "double"));
    on("wheel", this.wheel, { passive: false });
    on("keydown", this.type);
    on("contextmenu", (event) => event.preventDefault());
  }

  press(event) {
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    if (this.pointers.size === 0) this.travelled = 0;
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    const now = [event.offsetX, event.offsetY];
    if (!before) {
      this.pointed(...now, "hover");
      return;
    }
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    this.travelled += Math.hypot(dx, dy);
    if (this.pointers.size > 1) this.pinch(event.pointerId, before, now);
    else if (event.shiftKey || event.buttons & 6) this.orbit.move(dx, dy, this.canvas.clientHeight);
    else this.orbit.turn(dx, dy);
    this.pointers.set(event.pointerId, now);
    this.changed();
  }

  // Each of two fingers moves the scene by half of its way, and zooms by the change of their distance.
  pinch(moving, before, now) {
    const [, other] = [...this.pointers].find(([pointer]) => pointer !== moving);
    const apart = (place) => Math.max(10, Math.hypot(place[0] - other[0], place[1] - other[1]));
    this.orbit.zoom(apart(before) / apart(now));
    this.orbit.move((now[0] - before[0]) / 2, (now[1] - before[1]) / 2, this.canvas.clientHeight);
  }

  release(event) {
    if (this.pointers.delete(event.pointerId) && event.type === "pointerup" && this.travelled < 5) {
      this.pointed(event.offsetX, event.offsetY, "click");
    }
  }

  // The page scrolls under a view that nobody has clicked.
  wheel(event) {
    if (document.activeElement !== this.canvas && !event.ctrlKey) return;
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY / 40 : event.deltaY;
    this.orbit.zoom(Math.exp(0.05 * Math.max(-6, Math.min(6, lines))));
    this.changed();
  }

  type(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (arrow && event.shiftKey) this.orbit.move(30 * arrow[0], 30 * arrow[1], this.canvas.clientHeight);
    else if (arrow) this.orbit.turn(20 * arrow[0], 20 * arrow[1]);
    else if (event.key === "+" || event.key === "=") this.orbit.zoom(0.85);
    else if (event.key === "-") this.orbit.zoom(1 / 0.85);
    else if (event.key === "Home") this.orbit.reset();
    else if (event.key === "t" || event.key === "T") this.orbit.lookFromAbove();
    else {
      this.key(event.key);
      return;
    }
    event.preventDefault();
    this.changed();
  }
}
