// The programs of the 3D view, and the numbers that they share with the renderer.

const NEAR_M = 0.3;
const FAR_M = 900;
const FIELD_OF_VIEW = 0.9;
const BACKGROUND = [0.055, 0.063, 0.082];
const COLORING = { classes: 0, ramp: 1, changes: 2 };

const POINT_VERTEX = `#version 300 es
layout(location = 0) in vec3 place;
layout(location = 1) in uint label;
layout(location = 2) in uint other;
layout(location = 3) in float value;
uniform mat4 clipFromLidar;
uniform vec3 low, stepSize;
uniform vec2 heights;
uniform float size, smallest, largest;
uniform int coloring;
uniform bool byHeight;
uniform sampler2D classes, ramp;
out vec3 color;
flat out uint number;
void main() {
  vec3 point = low + stepSize * place;
  vec4 entry = texelFetch(classes, ivec2(int(label), 0), 0);
  float fraction = byHeight ? (point.z - heights.x) / (heights.y - heights.x) : value;
  gl_Position = clipFromLidar * vec4(point, 1.0);
  if (entry.a < 0.5) gl_Position = vec4(0.0, 0.0, 2.0, 1.0);  // beyond the far plane: not drawn
  gl_PointSize = clamp(size / gl_Position.w, smallest, largest);
  color = entry.rgb;
  if (coloring == ${COLORING.ramp}) {
    color = texelFetch(ramp, ivec2(int(clamp(fraction, 0.0, 1.0) * 255.0 + 0.5), 0), 0).rgb;
  }
  if (coloring == ${COLORING.changes}) {
    color = label == other ? vec3(0.26, 0.28, 0.33) : entry.rgb;
    gl_PointSize *= label == other ? 0.7 : 1.8;
  }
  number = uint(gl_VertexID) + 1u;
}`;

const POINT_FRAGMENT = `#version 300 es
precision highp float;
in vec3 color;
flat in uint number;
layout(location = 0) out vec4 outColor;
layout(location = 1) out uint outNumber;
void main() {
  vec2 fromMiddle = 2.0 * gl_PointCoord - 1.0;
  if (dot(fromMiddle, fromMiddle) > 1.0) discard;
  outColor = vec4(color, 1.0);
  outNumber = number;
}`;

const LINE_VERTEX = `#version 300 es
layout(location = 0) in vec3 place;
layout(location = 1) in vec3 lineColor;
uniform mat4 clipFromLidar;
out vec3 color;
flat out uint number;
void main() {
  gl_Position = clipFromLidar * vec4(place, 1.0);
  color = lineColor;
  number = 0u;
}`;

const LINE_FRAGMENT = `#version 300 es
precision highp float;
in vec3 color;
flat in uint number;
layout(location = 0) out vec4 outColor;
layout(location = 1) out uint outNumber;
void main() {
  outColor = vec4(color, 1.0);
  outNumber = number;
}`;

const SCREEN_VERTEX = `#version 300 es
void main() {
  gl_Position = vec4(vec2((gl_VertexID << 1) & 2, gl_VertexID & 2) * 2.0 - 1.0, 0.0, 1.0);
}`;

// Eye-dome lighting (Boucheny 2009): a pixel is darkened by how far it lies behind its neighbours.
const SCREEN_FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D colors, depths;
uniform float reach;
out vec4 outColor;
float distanceAt(ivec2 pixel) {
  float depth = 2.0 * texelFetch(depths, clamp(pixel, ivec2(0), textureSize(depths, 0) - 1), 0).r - 1.0;
  return log2(2.0 * ${NEAR_M.toFixed(1)} * ${FAR_M.toFixed(1)} / (${(NEAR_M + FAR_M).toFixed(1)} - depth * ${(FAR_M - NEAR_M).toFixed(1)}));
}
void main() {
  ivec2 pixel = ivec2(gl_FragCoord.xy);
  vec3 color = texelFetch(colors, pixel, 0).rgb;
  float here = distanceAt(pixel), behind = 0.0;
  for (int i = 0; i < 8; i++) {
    float angle = 0.785398 * float(i);
    behind += max(0.0, here - distanceAt(pixel + ivec2(round(reach * vec2(cos(angle), sin(angle))))));
  }
  bool empty = texelFetch(depths, pixel, 0).r == 1.0;
  outColor = vec4(empty ? color : color * max(0.25, exp(-1.2 * behind / 8.0)), 1.0);
}`;
