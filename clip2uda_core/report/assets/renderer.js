// Draws a cloud with WebGL2: points as discs, the number of each point in a second attachment (so that a look at one
// pixel tells the point under it), and edges shaded by depth, which makes shapes readable without any lighting.

class Renderer {
  constructor(canvas) {
    this.canvas = canvas;
    const gl = canvas.getContext("webgl2", { antialias: false, alpha: false, powerPreference: "high-performance" });
    if (!gl) throw new Error("this browser gives no WebGL2 context");
    this.gl = gl;
    this.points = this.program(POINT_VERTEX, POINT_FRAGMENT);
    this.lines = this.program(LINE_VERTEX, LINE_FRAGMENT);
    this.screen = this.program(SCREEN_VERTEX, SCREEN_FRAGMENT);
    this.pointArrays = gl.createVertexArray();
    this.lineArrays = gl.createVertexArray();
    this.noArrays = gl.createVertexArray();
    this.framebuffer = gl.createFramebuffer();
    this.classes = this.texture();
    this.ramp = this.texture();
    this.buffers = {};
    this.size = [0, 0];
  }

  program(vertex, fragment) {
    const gl = this.gl;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) || "shaders");
    const places = {};
    for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); i++) {
      const name = gl.getActiveUniform(program, i).name;
      places[name] = gl.getUniformLocation(program, name);
    }
    return { program, places };
  }

  texture() {
    const gl = this.gl;
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, gl.NEAREST);
    return texture;
  }

  // rgba: 256 colours; those with alpha 0 are not drawn.
  setClasses(rgba) {
    this.upload(this.classes, rgba);
  }

  setRamp(rgba) {
    this.upload(this.ramp, rgba);
  }

  upload(texture, rgba) {
    const gl = this.gl;
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
  }

  // cloud: {points, low, step, places: Uint16Array, layers: {name: Uint8Array}, heights: [low, high]}
  setCloud(cloud) {
    const gl = this.gl;
    Object.values(this.buffers).forEach((buffer) => gl.deleteBuffer(buffer));
    this.cloud = cloud;
    this.buffers = { places: this.buffer(cloud.places) };
    for (const [name, values] of Object.entries(cloud.layers)) this.buffers[name] = this.buffer(values);
  }

  buffer(values) {
    const gl = this.gl;
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    return buffer;
  }

  // segments: pairs of [x, y, z, red, green, blue]
  setLines(segments) {
    const gl = this.gl;
    this.lineCount = segments.length / 6;
    gl.bindVertexArray(this.lineArrays);
    this.buffer(new Float32Array(segments));
    [0, 1].forEach((place) => {
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, 3, gl.FLOAT, false, 24, 12 * place);
    });
  }

  // look: {label, other, value: names of layers, coloring, byHeight, size, withLines}
  draw(look, orbit) {
    this.fit();
    const gl = this.gl;
    const [width, height] = this.size;
    const clipFromLidar = multiply(perspective(FIELD_OF_VIEW, width / height, NEAR_M, FAR_M), orbit.view());
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    gl.viewport(0, 0, width, height);
    gl.enable(gl.DEPTH_TEST);
    gl.clearBufferfv(gl.COLOR, 0, [...BACKGROUND, 1]);
    gl.clearBufferuiv(gl.COLOR, 1, [0, 0, 0, 0]);
    gl.clearBufferfv(gl.DEPTH, 0, [1]);
    if (look.withLines) this.drawLines(clipFromLidar);
    this.drawPoints(look, clipFromLidar);
    this.drawScreen();
  }

  drawPoints(look, clipFromLidar) {
    const gl = this.gl;
    const { program, places } = this.points;
    const pixel = this.canvas.width / this.canvas.clientWidth;
    gl.useProgram(program);
    gl.bindVertexArray(this.pointArrays);
    this.attribute(0, this.buffers.places, 3, gl.UNSIGNED_SHORT);
    this.attribute(1, this.buffers[look.label], 1, gl.UNSIGNED_BYTE);
    this.attribute(2, this.buffers[look.other], 1, gl.UNSIGNED_BYTE);
    this.attribute(3, this.buffers[look.value], 1, gl.UNSIGNED_BYTE);
    gl.uniformMatrix4fv(places.clipFromLidar, false, clipFromLidar);
    gl.uniform3fv(places.low, this.cloud.low);
    gl.uniform3fv(places.stepSize, this.cloud.step);
    gl.uniform2fv(places.heights, this.cloud.heights);
    gl.uniform1f(places.size, 0.022 * look.size * this.size[1] / (2 * Math.tan(FIELD_OF_VIEW / 2)));
    gl.uniform1f(places.smallest, pixel * Math.max(1, 0.55 * look.size));
    gl.uniform1f(places.largest, pixel * 5 * look.size);
    gl.uniform1i(places.coloring, look.coloring);
    gl.uniform1i(places.byHeight, look.byHeight ? 1 : 0);
    this.bind(0, this.classes, places.classes);
    this.bind(1, this.ramp, places.ramp);
    gl.drawArrays(gl.POINTS, 0, this.cloud.points);
  }

  drawLines(clipFromLidar) {
    const gl = this.gl;
    gl.useProgram(this.lines.program);
    gl.bindVertexArray(this.lineArrays);
    gl.uniformMatrix4fv(this.lines.places.clipFromLidar, false, clipFromLidar);
    gl.drawArrays(gl.LINES, 0, this.lineCount);
  }

  drawScreen() {
    const gl = this.gl;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.disable(gl.DEPTH_TEST);
    gl.useProgram(this.screen.program);
    gl.bindVertexArray(this.noArrays);
    this.bind(0, this.colors, this.screen.places.colors);
    this.bind(1, this.depths, this.screen.places.depths);
    gl.uniform1f(this.screen.places.reach, 1.2 * this.canvas.width / this.canvas.clientWidth);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
  attribute(place, buffer, size, type) {
    const gl = this.gl;
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(place);
    if (place === 1 || place === 2) gl.vertexAttribIPointer(place, size, type, 0, 0);
    else gl.vertexAttribPointer(place, size, type, place === 3, 0, 0);
  }

  bind(unit, texture, place) {
    const gl = this.gl;
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.uniform1i(place, unit);
  }

  // Makes the canvas and the attachments as large as the place on the screen.
  fit() {
    const gl = this.gl;
    const scale = Math.min(2, 1.5 * window.devicePixelRatio); // more than the screen has: smooth edges
    const size = [this.canvas.clientWidth, this.canvas.clientHeight].map((side) => Math.max(1, Math.round(scale * side)));
    if (size[0] === this.size[0] && size[1] === this.size[1]) return;
    this.size = [this.canvas.width, this.canvas.height] = size;
    [this.colors, this.numbers, this.depths].forEach((texture) => texture && gl.deleteTexture(texture));
    this.colors = this.attachment(gl.COLOR_ATTACHMENT0, gl.RGBA8);
    this.numbers = this.attachment(gl.COLOR_ATTACHMENT1, gl.R32UI);
    this.depths = this.attachment(gl.DEPTH_ATTACHMENT, gl.DEPTH_COMPONENT24);
    gl.drawBuffers([gl.COLOR_ATTACHMENT0, gl.COLOR_ATTACHMENT1]);
  }

  attachment(place, format) {
    const gl = this.gl;
    const texture = this.texture();
    gl.texStorage2D(gl.TEXTURE_2D, 1, format, ...this.size);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, place, gl.TEXTURE_2D, texture, 0);
    return texture;
  }

  // The number of the drawn point nearest to a place on the canvas (CSS pixels), or -1 where there is none.
  pick(x, y) {
    const gl = this.gl;
    const scale = this.canvas.width / this.canvas.clientWidth;
    const radius = Math.round(6 * scale);
    const side = 2 * radius + 1;
    const numbers = new Uint32Array(4 * side * side);
    const left = Math.round(scale * x) - radius;
    const bottom = this.size[1] - 1 - Math.round(scale * y) - radius;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    gl.readBuffer(gl.COLOR_ATTACHMENT1);
    gl.readPixels(left, bottom, side, side, gl.RGBA_INTEGER, gl.UNSIGNED_INT, numbers);
    let [nearest, distance] = [0, Infinity];
    for (let i = 0; i < side * side; i++) {
      const away = Math.hypot((i % side) - radius, Math.floor(i / side) - radius);
      if (numbers[4 * i] && away < distance) [nearest, distance] = [numbers[4 * i], away];
    }
    return nearest - 1;
  }
}
